"""What one document becomes in the tables, and how it leaves them. All inside the caller's transaction."""

import json
import sqlite3

import numpy as np

from mmrag.retrieval.filters import comparable
from mmrag.retrieval.words import normalise_label
from mmrag.types import Document, EncodedDocument, EncodedImage


def tenant_number(connection: sqlite3.Connection, name: str) -> int | None:
    """The number of a tenant, None where it never wrote anything."""
    row = connection.execute("SELECT num FROM tenants WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def add_tenant(connection: sqlite3.Connection, name: str) -> int:
    """The number of a tenant, new or not.

    Each tenant has a full-text index of its own: what others write changes neither its results nor its scores.
    """
    number = tenant_number(connection, name)
    if number is None:
        number = _insert(connection, "INSERT INTO tenants (name) VALUES (?)", (name,))
        connection.execute(
            f"CREATE VIRTUAL TABLE words_{number} USING fts5(title, labels, text,"
            ' tokenize = "unicode61 remove_diacritics 2")'
        )
    return number


def put_document(connection: sqlite3.Connection, tenant: int, encoded: EncodedDocument) -> None:
    """Write a document, replacing the one of the same id."""
    document = encoded.document
    old_images = remove_document(connection, tenant, document.id)
    number = _insert(
        connection,
        "INSERT INTO documents (tenant, id, content_hash, title, labels, metadata, text) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (tenant, document.id, encoded.content_hash, document.title, json.dumps(document.labels),
         json.dumps(document.metadata), document.text),
    )  # fmt: skip
    _put_passages(connection, tenant, number, encoded)
    for position, image in enumerate(encoded.images):
        connection.execute(
            "INSERT INTO pictures (document, position, image) VALUES (?, ?, ?)",
            (number, position, _put_image(connection, tenant, image)),
        )
    _put_tags(connection, tenant, number, document)
    remove_unused_images(connection, old_images)


def remove_document(connection: sqlite3.Connection, tenant: int, document_id: str) -> list[int]:
    """Take a document out of every table, if it is there, but for its images, whose numbers are returned."""
    row = connection.execute("SELECT num FROM documents WHERE tenant = ? AND id = ?", (tenant, document_id)).fetchone()
    if row is None:
        return []
    images = [image for (image,) in connection.execute("SELECT image FROM pictures WHERE document = ?", row)]
    connection.execute(f"DELETE FROM words_{tenant} WHERE rowid IN (SELECT num FROM passages WHERE document = ?)", row)
    connection.execute("INSERT INTO deletions (document) VALUES (?)", row)
    connection.execute("DELETE FROM documents WHERE num = ?", row)
    return images


def remove_unused_images(connection: sqlite3.Connection, images: list[int]) -> None:
    """Delete those of these images that no document shows any more."""
    connection.executemany(
        "DELETE FROM images WHERE num = ? AND NOT EXISTS (SELECT 1 FROM pictures WHERE image = images.num)",
        [(image,) for image in images],
    )


def _put_passages(connection: sqlite3.Connection, tenant: int, number: int, encoded: EncodedDocument) -> None:
    labels = "\n".join(encoded.document.labels)
    for position, passage in enumerate(encoded.passages):
        row = _insert(
            connection,
            "INSERT INTO passages (document, position, start, end, embedding) VALUES (?, ?, ?, ?, ?)",
            (number, position, passage.start, passage.end, _blob(passage.embedding)),
        )
        connection.execute(
            f"INSERT INTO words_{tenant} (rowid, title, labels, text) VALUES (?, ?, ?, ?)",
            (row, encoded.document.title, labels, passage.text),
        )


def _put_image(connection: sqlite3.Connection, tenant: int, encoded: EncodedImage) -> int:
    image = encoded.image
    connection.execute(
        "INSERT INTO images (tenant, id, media_type, embedding, content) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (tenant, id) DO NOTHING",
        (tenant, image.id, image.media_type, _blob(encoded.embedding), image.content),
    )
    return connection.execute("SELECT num FROM images WHERE tenant = ? AND id = ?", (tenant, image.id)).fetchone()[0]


def _put_tags(connection: sqlite3.Connection, tenant: int, number: int, document: Document) -> None:
    labels = {normalise_label(label) for label in (document.title, *document.labels)} - {""}
    connection.executemany(
        "INSERT INTO labels (tenant, label, num_words, document) VALUES (?, ?, ?, ?)",
        [(tenant, label, label.count(" ") + 1, number) for label in labels],
    )
    values = {(name, value) for name, values in document.metadata.items() for value in comparable(values)}
    connection.executemany(
        "INSERT INTO metadata (tenant, field, value, document) VALUES (?, ?, ?, ?)",
        [(tenant, name, value, number) for name, value in values],
    )


def _blob(embedding: np.ndarray | None) -> bytes | None:
    return None if embedding is None else np.asarray(embedding, dtype=np.float16).tobytes()


def _insert(connection: sqlite3.Connection, sql: str, parameters: tuple) -> int:
    number = connection.execute(sql, parameters).lastrowid
    assert number is not None
    return number
