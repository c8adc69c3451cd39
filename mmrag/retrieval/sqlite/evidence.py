"""Reading passages for an answer: their text, embeddings, and the picture that goes with them."""

import json
import sqlite3

import numpy as np

from mmrag.retrieval.best_fit import best_passage, best_picture
from mmrag.retrieval.store import Key
from mmrag.types import Passage, SearchRequest


def read_passage(connection: sqlite3.Connection, tenant: int, request: SearchRequest, key: Key) -> Passage | None:
    """The passage of a key, None where it is gone."""
    document_id, position = key
    document = connection.execute(
        "SELECT num, title, labels, metadata FROM documents WHERE tenant = ? AND id = ?", (tenant, document_id)
    ).fetchone()
    if document is None:
        return None
    number, title, labels, metadata = document
    if position is None:
        position = _best_position(connection, number, request)
    row = connection.execute(
        f"SELECT p.start, p.end, w.text, p.embedding FROM passages p JOIN words_{tenant} w ON w.rowid = p.num"
        " WHERE p.document = ? AND p.position = ?",
        (number, position),
    ).fetchone()
    if row is None:
        return None
    start, end, text, blob = row
    image_id, image_embedding = _best_image(connection, number, request)
    return Passage(
        id=f"{document_id}#{position}", document_id=document_id, title=title, text=text, start=start, end=end,
        image_id=image_id, labels=json.loads(labels), metadata=json.loads(metadata),
        text_embedding=_vector(blob), image_embedding=image_embedding,
    )  # fmt: skip


def _best_position(connection: sqlite3.Connection, document: int, request: SearchRequest) -> int:
    rows = connection.execute(
        "SELECT position, embedding FROM passages WHERE document = ? ORDER BY position", (document,)
    ).fetchall()
    return rows[best_passage(request, [_vector(blob) for _, blob in rows])][0]


def _best_image(
    connection: sqlite3.Connection, document: int, request: SearchRequest
) -> tuple[str | None, np.ndarray | None]:
    rows = connection.execute(
        "SELECT i.id, i.embedding FROM pictures l JOIN images i ON i.num = l.image WHERE l.document = ?"
        " ORDER BY l.position",
        (document,),
    ).fetchall()
    if not rows:
        return None, None
    vectors = [_vector(blob) for _, blob in rows]
    best = best_picture(request, vectors)
    return rows[best][0], vectors[best]


def _vector(blob: bytes | None) -> np.ndarray | None:
    return None if blob is None else np.frombuffer(blob, dtype=np.float16)
