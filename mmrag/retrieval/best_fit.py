"""Which passage, and which picture, stands for a document that was found as a whole: the same rule in every store."""

from collections.abc import Sequence

import numpy as np

from mmrag.types import SearchRequest


def best_passage(request: SearchRequest, embeddings: Sequence[np.ndarray | None]) -> int:
    """The index of the passage nearest to the query: to its text, where it has one. 0 where that cannot be told."""
    return _best(passage_query(request), embeddings)


def best_picture(request: SearchRequest, embeddings: Sequence[np.ndarray | None]) -> int:
    """The index of the picture nearest to the query: to its picture, where it has one. 0 where that cannot be told."""
    return _best(request.image_embedding if request.image_embedding is not None else request.text_embedding, embeddings)


def passage_query(request: SearchRequest) -> np.ndarray | None:
    """What passages are compared with, float [dimension]; None where the query has no embedding."""
    return request.text_embedding if request.text_embedding is not None else request.image_embedding


def _best(wanted: np.ndarray | None, embeddings: Sequence[np.ndarray | None]) -> int:
    known = [(i, embedding) for i, embedding in enumerate(embeddings) if embedding is not None]
    if wanted is None or not known:
        return 0
    return known[int(np.argmax(np.stack([embedding for _, embedding in known]).astype(np.float32) @ wanted))][0]
