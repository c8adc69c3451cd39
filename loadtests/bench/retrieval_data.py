"""What the retrieval benchmark searches: WordNet's glosses, embedded once by MiniLM.

The embeddings lie in .cache/glosses, block by block, so that embedding goes on where it was cut off, and a run at a
smaller scale uses those of a larger one. To embed all of them beforehand: python -m loadtests.bench.retrieval_data
"""

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmrag.config import TextEncoderConfig
from mmrag.encoders.text import TextEncoder
from mmrag.types import Document, EncodedDocument, EncodedPassage

WORDNET = Path("/usr/share/wordnet")
CACHE = Path(__file__).parents[2] / ".cache" / "glosses"
BLOCK_TEXTS = 2_048
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
        vectors: float32 [count + NUM_QUERIES, dimension].
    """

    def __init__(self, count: int):
        everything = glosses()
        if count + NUM_QUERIES > len(everything):
            raise ValueError(f"WordNet has only {len(everything):,} glosses")
        order = np.random.default_rng(0).permutation(len(everything))
        self.count = count
        self.texts = [everything[i] for i in order[: count + NUM_QUERIES]]
        self.vectors = _embedded([everything[i] for i in order], count + NUM_QUERIES)

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


def _embedded(texts: list[tuple[str, str]], count: int) -> np.ndarray:
    """The embeddings of the first `count` texts, whole blocks of which are read from files, or written to them."""
    encode = lru_cache(lambda: TextEncoder(TextEncoderConfig()).encode)
    blocks = []
    for start in tqdm(range(0, count, BLOCK_TEXTS), desc="embeddings of the glosses", leave=False):
        path = CACHE / f"{start}.npy"
        if not path.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(f".{os.getpid()}.tmp")
            with scratch.open("wb") as file:
                np.save(file, encode()([f"{word}: {gloss}" for word, gloss in texts[start : start + BLOCK_TEXTS]]))
            scratch.rename(path)
        blocks.append(np.load(path))
    return np.concatenate(blocks)[:count]


if __name__ == "__main__":
    print(f"{len(Glosses(100_000).vectors):,} embeddings are in {CACHE}")
