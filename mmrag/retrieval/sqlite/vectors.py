"""Exact nearest neighbours by matrix product, over vectors held in memory."""

import numpy as np

from mmrag.errors import ConfigurationError
from mmrag.retrieval.store import Key

_MAX_SCORES = 2**25
"""Scores held at once while searching: 128 MiB of float32."""


class VectorTable:
    """Unit vectors, each with the number of the document it belongs to and the key it stands for."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._vectors = np.empty((0, 0), dtype=np.float32)
        self._documents = np.empty(0, dtype=np.int64)
        self._keys: list[Key] = []
        self._num_dead = 0

    def __len__(self) -> int:
        return len(self._keys) - self._num_dead

    def append(self, documents: list[int], keys: list[Key], vectors: np.ndarray) -> None:
        """Add rows.

        Args:
            documents: the number, from 1, of each row's document.
            vectors: float [n, dimension].
        """
        if not len(self):
            self._clear()
        start, end = len(self._keys), len(self._keys) + len(keys)
        self._reserve(end, vectors.shape[1])
        self._vectors[start:end] = vectors
        self._documents[start:end] = documents
        self._keys.extend(keys)

    def remove(self, documents: np.ndarray) -> None:
        """Forget the rows of these documents, int64 [n]."""
        rows = np.flatnonzero(np.isin(self._documents[: len(self._keys)], documents))
        self._documents[rows] = 0
        self._num_dead += len(rows)
        if self._num_dead > max(1_024, len(self._keys) // 2):
            self._compact()

    def nearest(
        self, queries: np.ndarray, allowed: list[np.ndarray | None], count: int
    ) -> list[list[tuple[Key, float]]]:
        """The `count` rows with the highest dot product for each query, best first.

        Args:
            queries: float32 [n, dimension].
            allowed: for each query the numbers of the documents it may see; None: all.
        """
        if not len(self) or not len(queries):
            return [[] for _ in queries]
        if queries.shape[1] != self._vectors.shape[1]:
            raise ConfigurationError(
                f"the query's embedding has {queries.shape[1]} dimensions, the knowledge base "
                f"{self._vectors.shape[1]}; serve with the encoders it was ingested with, or ingest it again"
            )
        chunk = max(1, _MAX_SCORES // len(self._keys))
        found: list[list[tuple[Key, float]]] = []
        for start in range(0, len(queries), chunk):
            scores = queries[start : start + chunk] @ self._vectors[: len(self._keys)].T
            found += [
                self._best(row, numbers, count)
                for row, numbers in zip(scores, allowed[start : start + chunk], strict=True)
            ]
        return found

    def _best(self, scores: np.ndarray, allowed: np.ndarray | None, count: int) -> list[tuple[Key, float]]:
        documents = self._documents[: len(self._keys)]
        rows = None
        if allowed is not None:
            rows = np.flatnonzero(np.isin(documents, allowed))
        elif self._num_dead:
            rows = np.flatnonzero(documents)
        visible = scores if rows is None else scores[rows]
        best = np.arange(len(visible))
        if len(visible) > count:
            best = np.argpartition(visible, len(visible) - count)[-count:]
        best = best[np.lexsort((best, -visible[best]))]
        rows = best if rows is None else rows[best]
        return [(self._keys[row], float(scores[row])) for row in rows]

    def _reserve(self, num_rows: int, dimension: int) -> None:
        if num_rows <= len(self._vectors):
            return
        used, capacity = len(self._keys), max(64, num_rows + num_rows // 2)
        vectors, documents = self._vectors, self._documents
        self._vectors = np.empty((capacity, dimension), dtype=np.float32)
        self._documents = np.zeros(capacity, dtype=np.int64)
        if used:
            self._vectors[:used], self._documents[:used] = vectors[:used], documents[:used]

    def _compact(self) -> None:
        rows = np.flatnonzero(self._documents[: len(self._keys)])
        self._vectors[: len(rows)] = self._vectors[rows]
        self._documents[: len(rows)] = self._documents[rows]
        self._keys = [self._keys[row] for row in rows]
        self._num_dead = 0
