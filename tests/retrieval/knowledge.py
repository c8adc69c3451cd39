"""A small random knowledge base for the tests of retrieval."""

import hashlib

import numpy as np
import pytest

from mmrag.images import image_id
from mmrag.types import Document, EncodedDocument, EncodedImage, EncodedPassage, StoredImage

DIMENSION = 16


def unit(random: np.random.Generator, dimension: int = DIMENSION) -> np.ndarray:
    """A random direction: float32 [dimension], exact in half precision."""
    vector = random.normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float16).astype(np.float32)


def encode(
    document: Document, passages: list[tuple[str, np.ndarray | None]] | None = None, images: list[np.ndarray] = ()
) -> EncodedDocument:
    """A document with given embeddings; unless it has images, their bytes are those of the embeddings."""
    passages = passages or [(document.text, None)]
    encoded, start = [], 0
    for text, embedding in passages:
        encoded.append(EncodedPassage(text, start, start + len(text), embedding))
        start += len(text)
    contents = document.images or [embedding.tobytes() for embedding in images]
    pictures = [
        EncodedImage(StoredImage(image_id(content), content, "image/png"), embedding)
        for content, embedding in zip(contents, images, strict=True)
    ]
    content = repr((document, passages, images)).encode("utf-8", "surrogatepass")
    return EncodedDocument(document, hashlib.sha256(content).digest(), encoded, pictures)


def random_document(random: np.random.Generator, number: int) -> EncodedDocument:
    """One to three passages, none to two pictures, metadata `parity` and `tags`."""
    words = ["apple", "bread", "cheese", "dates", "eggs", "figs", "grapes"]
    passages = [(" ".join(random.choice(words, 5)) + ". ", unit(random)) for _ in range(random.integers(1, 4))]
    document = Document(
        id=f"doc-{number}",
        title=str(random.choice(words)),
        text="".join(text for text, _ in passages),
        metadata={"parity": number % 2, "tags": [f"t{number % 3}", f"u{number % 5}"]},
    )
    return encode(document, passages, [unit(random) for _ in range(random.integers(0, 3))])


def brute_force(documents: list[EncodedDocument], query: np.ndarray, target: str) -> list[tuple[tuple, float]]:
    scored = []
    for encoded in documents:
        if target == "text":
            rows = [(i, passage.embedding) for i, passage in enumerate(encoded.passages)]
        else:
            rows = [(None, image.embedding) for image in encoded.images]
        scored += [((encoded.document.id, position), float(query @ vector)) for position, vector in rows]
    return sorted(scored, key=lambda pair: -pair[1])


def assert_same(found, expected, count, within=1e-6):
    assert len(found) == min(count, len(expected))
    assert [score for _, score in found] == pytest.approx([score for _, score in expected[:count]], abs=within)
    assert sorted(key for key, _ in found) == sorted(key for key, _ in expected[:count])
