"""What the retrieval benchmark searches: WordNet's glosses, embedded once by MiniLM."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmrag.config import TextEncoderConfig
from mmrag.encoders.text import TextEncoder
from mmrag.types import Document, EncodedDocument, EncodedPassage

WORDNET = Path("/usr/share/wordnet")
CACHE = Path.home() / ".cache" / "mmrag"
NUM_QUERIES = 200
TENANT = "bench"


def glosses() -> list[tuple[str, str]]:
    """(word, gloss) of every synset, nouns first, in WordNet's order."""
    if not WORDNET.exists():
        raise FileNotFoundError("WordNet is missing: apt-get install wordnet-base")
    found = []
    for kind in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET / f"data.{kind}").read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):
                fields, _, gloss = line.partition(" | ")
                found.append((re.sub(r"\(.*\)", "", fields.split()[4]).replace("_", " "), gloss.strip()))
    return found


class Glosses:
    """`count` glosses with embeddings, and `NUM_QUERIES` others to ask with, all chosen at random with a fixed seed.

    Attributes:
        vectors: float32 [count + NUM_QUERIES, dimension], mapped from a file.
    """

    def __init__(self, count: int):
        everything = glosses()
        if count + NUM_QUERIES > len(everything):
            raise ValueError(f"WordNet has only {len(everything):,} glosses")
        order = np.random.default_rng(0).permutation(len(everything))[: count + NUM_QUERIES]
        self.count = count
        self.texts = [everything[i] for i in order]
        self.vectors = self._embedded()

    def documents(self, start: int = 0, end: int | None = None) -> Iterator[EncodedDocument]:
        """Documents `start` to `end`, made one by one."""
        for i in range(start, self.count if end is None else end):
            word, gloss = self.texts[i]
            document = Document(id=f"gloss-{i}", title=word, text=gloss)
            yield EncodedDocument(document, b"%d" % i, [EncodedPassage(gloss, 0, len(gloss), self.vectors[i])])

    def queries(self) -> Iterator[tuple[str, np.ndarray]]:
        """Text and embedding of those to ask with."""
        for i in range(self.count, len(self.texts)):
            yield self.texts[i][1], np.array(self.vectors[i])

    def _embedded(self) -> np.ndarray:
        path = CACHE / f"wordnet-minilm-{self.count}.npy"
        if not path.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            encoder = TextEncoder(TextEncoderConfig())
            texts = [f"{word}: {gloss}" for word, gloss in self.texts]
            groups = tqdm(range(0, len(texts), 256), desc="embedding glosses (once)")
            vectors = np.concatenate([encoder.encode(texts[i : i + 256]) for i in groups])
            scratch = path.with_suffix(".tmp.npy")
            np.save(scratch, vectors.astype(np.float32))
            scratch.rename(path)
        return np.load(path, mmap_mode="r")
