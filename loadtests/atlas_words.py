"""The atlas, read as data: who is in it, how people ask about them, and their pictures."""

import functools
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

ATLAS = Path(__file__).parent.parent / "atlas"


@dataclass(frozen=True)
class Thing:
    """A country or an emoji. `attributes`: what a question can be about."""

    id: str
    kind: str
    name: str
    attributes: list[str]


@dataclass
class Atlas:
    """Things, the wordings of questions by (kind, attribute, "named" | "shown"), captions and documents."""

    directory: Path
    things: list[Thing]
    documents: list[dict]
    captions: list[str]
    wordings: dict[tuple[str, str, str], list[str]]
    _pictures: dict[str, Image.Image] = field(default_factory=dict)

    def question(self, rng: random.Random, form: str) -> tuple[str, Thing]:
        """A question in words ("named"), or one to ask beside the thing's picture ("shown")."""
        while True:
            thing = rng.choice(self.things)
            asked = [name for name in thing.attributes if self.wordings.get((thing.kind, name, form))]
            if asked:
                template = rng.choice(self.wordings[thing.kind, rng.choice(asked), form])
                return template.format(name=thing.name, names=_possessive(thing.name)), thing

    def picture(self, thing_id: str) -> Image.Image:
        """Its picture, RGBA."""
        if thing_id not in self._pictures:
            self._pictures[thing_id] = Image.open(self.directory / f"images/{thing_id}.png").convert("RGBA")
        return self._pictures[thing_id]


@functools.cache
def load_atlas(directory: Path = ATLAS) -> Atlas:
    """Read the files of the atlas."""
    schema = json.loads((directory / "schema.json").read_text(encoding="utf-8"))
    wordings = {
        (kind, attribute, form): [*templates, *about["questions"]["test"].get(form, [])]
        for kind, entry in schema["kinds"].items()
        for attribute, about in entry["attributes"].items()
        for form, templates in about.get("questions", {}).get("train", {}).items()
    }
    facts = _lines(directory / "facts.jsonl")
    things = [Thing(fact["document_id"], fact["kind"], fact["name"], list(fact["values"])) for fact in facts]
    return Atlas(directory, things, _lines(directory / "knowledge.jsonl"), schema["captions"]["train"], wordings)


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _possessive(name: str) -> str:
    return name + ("'" if name.endswith("s") else "'s")
