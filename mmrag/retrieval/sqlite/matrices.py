"""The embeddings of the store as matrices in this process, brought up to date before each search."""

import sqlite3
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from mmrag.retrieval.sqlite.vectors import VectorTable

_BATCH_ROWS = 10_000

_NEW_PASSAGES = """
SELECT p.num, d.tenant, d.num, d.id, p.position, p.embedding
FROM passages p JOIN documents d ON d.num = p.document
WHERE p.num > ? AND p.embedding IS NOT NULL ORDER BY p.num"""

_NEW_PICTURES = """
SELECT l.num, d.tenant, d.num, d.id, NULL, i.embedding
FROM pictures l JOIN documents d ON d.num = l.document JOIN images i ON i.num = l.image
WHERE l.num > ? ORDER BY l.num"""


@dataclass(slots=True)
class TenantMatrices:
    """One tenant's embeddings: of passages, and of the pictures of its documents."""

    texts: VectorTable = field(default_factory=VectorTable)
    images: VectorTable = field(default_factory=VectorTable)


class Matrices:
    """Every tenant's embeddings apart from every other's. Hold `lock` from `refresh` until the search is over."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._tenants: dict[int, TenantMatrices] = defaultdict(TenantMatrices)
        self._seen = {"passages": 0, "pictures": 0, "deletions": 0}

    def of(self, tenant: int) -> TenantMatrices:
        return self._tenants[tenant]

    def refresh(self, connection: sqlite3.Connection) -> None:
        """Bring in what was written since the last time; `connection` is inside a transaction."""
        newest = dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
        if any(newest.get(name, 0) > seen for name, seen in self._seen.items()):
            self._forget_deleted(connection)
            self._append("passages", connection.execute(_NEW_PASSAGES, (self._seen["passages"],)))
            self._append("pictures", connection.execute(_NEW_PICTURES, (self._seen["pictures"],)))
            self._seen = {name: newest.get(name, 0) for name in self._seen}

    def _forget_deleted(self, connection: sqlite3.Connection) -> None:
        log = connection.execute("SELECT document FROM deletions WHERE num > ?", (self._seen["deletions"],))
        documents = np.array([document for (document,) in log], dtype=np.int64)
        if len(documents):
            for tenant in self._tenants.values():
                tenant.texts.remove(documents)
                tenant.images.remove(documents)

    def _append(self, name: str, cursor: sqlite3.Cursor) -> None:
        while rows := cursor.fetchmany(_BATCH_ROWS):
            rows.sort(key=lambda row: row[1])
            for tenant, group in groupby(rows, key=lambda row: row[1]):
                _, _, documents, ids, positions, blobs = zip(*group, strict=True)
                vectors = np.frombuffer(b"".join(blobs), dtype=np.float16).reshape(len(blobs), -1)
                table = self._tenants[tenant].texts if name == "passages" else self._tenants[tenant].images
                table.append(list(documents), list(zip(ids, positions, strict=True)), vectors)
