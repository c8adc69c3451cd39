"""The embedded knowledge base: one SQLite file, full-text search by FTS5, exact kNN in memory.

The file is the only truth. Any number of threads and processes on one machine read and write it at once; each
keeps the embeddings as matrices and, before every search, brings in what others have written since.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mmrag.errors import ConfigurationError, NotFound
from mmrag.retrieval.sqlite import branches, writing
from mmrag.retrieval.sqlite.database import Database
from mmrag.retrieval.sqlite.evidence import read_passage
from mmrag.retrieval.sqlite.matrices import Matrices
from mmrag.retrieval.sqlite.scope import Scope, metadata_fields, scope_of
from mmrag.retrieval.store import Candidates, Key
from mmrag.types import Document, EncodedDocument, Passage, SearchRequest, StoredImage


class SqliteStore:
    """`mmrag.retrieval.store.Store` (see there), but its methods block. They may be called from any thread.

    Args:
        path: the file; made where it is missing. It must lie on a local disk, for locks to work.
        fingerprint: names the models that the embeddings come from, both encoders together. The first writer's is
            kept in the file; None: not checked.

    Raises:
        ConfigurationError: the file cannot be used, or holds embeddings of other models.
    """

    def __init__(self, path: str | Path, fingerprint: str | None = None):
        self._database = Database(path)
        self._fingerprint = fingerprint
        self._matrices = Matrices()
        with self._database.read() as connection:
            self._check("fingerprint", fingerprint, connection)

    def close(self) -> None:
        self._database.close()

    def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        with self._database.write() as connection:
            self._check_embeddings(connection, documents)
            number = writing.add_tenant(connection, tenant)
            for document in documents:
                writing.put_document(connection, number, document)

    def delete(self, tenant: str, document_id: str) -> None:
        with self._database.write() as connection:
            number, _ = _find(connection, tenant, document_id)
            images = writing.remove_document(connection, number, document_id)
            writing.remove_unused_images(connection, images)

    def get(self, tenant: str, document_id: str) -> Document:
        with self._database.read() as connection:
            _, number = _find(connection, tenant, document_id)
            title, text, labels, metadata = connection.execute(
                "SELECT title, text, labels, metadata FROM documents WHERE num = ?", (number,)
            ).fetchone()
            images = connection.execute(
                "SELECT i.content FROM pictures l JOIN images i ON i.num = l.image WHERE l.document = ?"
                " ORDER BY l.position",
                (number,),
            )
            return Document(
                document_id, title, text, [content for (content,) in images], json.loads(labels), json.loads(metadata)
            )

    def image(self, tenant: str, image_id: str) -> StoredImage:
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT content, media_type FROM images"
                " WHERE tenant = (SELECT num FROM tenants WHERE name = ?) AND id = ?",
                (tenant, image_id),
            ).fetchone()
        if row is None:
            raise NotFound(f"there is no image {image_id!r}")
        return StoredImage(image_id, *row)

    def count(self, tenant: str) -> int:
        with self._database.read() as connection:
            return connection.execute(
                "SELECT COUNT(*) FROM documents WHERE tenant = (SELECT num FROM tenants WHERE name = ?)", (tenant,)
            ).fetchone()[0]

    def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        with self._database.read() as connection:
            return dict(
                connection.execute(
                    "SELECT id, content_hash FROM documents WHERE tenant = (SELECT num FROM tenants WHERE name = ?)"
                    " AND id IN (SELECT value FROM json_each(?))",
                    (tenant, json.dumps(document_ids)),
                )
            )

    def candidates(self, requests: list[SearchRequest], count: int) -> list[Candidates]:
        with self._database.read() as connection:
            # Before the lock, for filters take time. The matrices may then know what this transaction, begun with the
            # first read, does not see yet; what was deleted by then is left out by `passages`.
            scopes = [_scope(connection, request) for request in requests]
            with self._matrices.lock:
                self._matrices.refresh(connection)
                found = self._neighbours(requests, scopes, count)
            for request, scope, by_branch in zip(requests, scopes, found, strict=True):
                if scope is not None and request.text:
                    by_branch["bm25"] = branches.bm25(connection, scope, request.text, count)
                if scope is not None and (request.text or request.labels):
                    by_branch["label"] = branches.labels(connection, scope, request, count)
        return found

    def passages(self, requests: list[SearchRequest], keys: list[list[Key]]) -> list[list[Passage]]:
        with self._database.read() as connection:
            found = []
            for request, wanted in zip(requests, keys, strict=True):
                tenant = writing.tenant_number(connection, request.tenant)
                read = [read_passage(connection, tenant, request, key) for key in wanted] if tenant else []
                found.append([passage for passage in read if passage is not None])
            return found

    def metadata_fields(self, tenant: str, wanted: Iterable[str]) -> list[str]:
        with self._database.read() as connection:
            number = writing.tenant_number(connection, tenant)
            return [] if number is None else sorted(metadata_fields(connection, number, wanted))

    def _neighbours(self, requests: list[SearchRequest], scopes: list[Scope | None], count: int) -> list[Candidates]:
        found = [Candidates() for _ in requests]
        of_tenant: dict[int, list[tuple[int, Scope]]] = defaultdict(list)
        for i, scope in enumerate(scopes):
            if scope is not None:
                of_tenant[scope.tenant].append((i, scope))
        for tenant, members in of_tenant.items():
            asked = [(requests[i], scope) for i, scope in members]
            results = branches.neighbours(self._matrices.of(tenant), asked, count)
            for (i, _), by_branch in zip(members, results, strict=True):
                found[i].update(by_branch)
        return found

    def _check_embeddings(self, connection: sqlite3.Connection, documents: list[EncodedDocument]) -> None:
        embeddings = [passage.embedding for document in documents for passage in document.passages]
        embeddings += [image.embedding for document in documents for image in document.images]
        dimensions = {len(embedding) for embedding in embeddings if embedding is not None}
        if len(dimensions) > 1:
            raise ConfigurationError(f"embeddings of different dimensions cannot be compared: {sorted(dimensions)}")
        for name, value in [("fingerprint", self._fingerprint), *(("dimension", str(d)) for d in dimensions)]:
            self._check(name, value, connection)
            if value is not None:
                connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def _check(self, name: str, value: str | None, connection: sqlite3.Connection) -> None:
        stored = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        is_empty = connection.execute("SELECT 1 FROM documents LIMIT 1").fetchone() is None
        if stored and value is not None and stored[0] != value and not is_empty:
            raise ConfigurationError(
                f"the knowledge base {self._database.path} was embedded by other models ({name} {stored[0]}, now "
                f"{value}); serve with those, or name another file (retriever.path) and ingest again"
            )


def _find(connection: sqlite3.Connection, tenant: str, document_id: str) -> tuple[int, int]:
    row = connection.execute(
        "SELECT d.tenant, d.num FROM documents d JOIN tenants t ON t.num = d.tenant WHERE t.name = ? AND d.id = ?",
        (tenant, document_id),
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no document {document_id!r}")
    return row


def _scope(connection: sqlite3.Connection, request: SearchRequest) -> Scope | None:
    # A tenant without a number has never written anything.
    tenant = writing.tenant_number(connection, request.tenant)
    return None if tenant is None else scope_of(connection, tenant, request.filters)
