"""Definitions of nouns from WordNet's own files (index.noun, data.noun)."""

import re
from pathlib import Path

MAX_WORDS = 22


class WordNetNouns:
    """Looks up senses of a noun, the most frequent first."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._data = (folder / "data.noun").read_bytes()
        self._offsets: dict[str, list[int]] = {}
        for line in (folder / "index.noun").read_text(encoding="latin-1").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split()
            self._offsets[fields[0]] = [int(field) for field in fields[-int(fields[2]) :]]

    def definition(self, noun: str, topics: set[int]) -> str | None:
        """The first sense in one of the lexicographers' files `topics` (all senses where empty), without examples.

        None where there is no such sense, or where it needs more than `MAX_WORDS` words.
        """
        for offset in self._offsets.get(noun.lower().replace(" ", "_"), []):
            line = self._data[offset : self._data.index(b"\n", offset)].decode("latin-1")
            topic, gloss = int(line[9:11]), line.split("|", 1)[1]
            if not topics or topic in topics:
                definition = _without_examples(gloss)
                return definition if 1 < len(definition.split()) <= MAX_WORDS else None
        return None

    def first_topic(self, noun: str) -> int:
        """The lexicographers' file of the most frequent sense, a number."""
        offset = self._offsets[noun][0]
        return int(self._data[offset + 9 : offset + 11])

    def is_name(self, noun: str) -> bool:
        """Whether the most frequent sense is written with a capital: Monday, Hawaii."""
        offset = self._offsets[noun][0]
        return noun.capitalize() in self._data[offset : offset + 200].decode("latin-1").split("|")[0].split()


def _without_examples(gloss: str) -> str:
    definition = re.split(r'; *"|"', gloss)[0]
    definition = re.sub(r"\([^)]*\)", " ", definition)
    definition = re.split(r"; ", definition)[0].replace("`", "'")
    return re.sub(r" +([,.])", r"\1", re.sub(r"\s+", " ", definition)).strip(" ;:.,")
