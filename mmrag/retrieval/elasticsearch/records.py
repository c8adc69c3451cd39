"""A document as records of the index, and back."""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mmrag.retrieval.elasticsearch.scope import field_key, field_values
from mmrag.retrieval.words import fold, normalise_label
from mmrag.types import Document, EncodedDocument, EncodedImage, EncodedPassage, StoredImage

Record = dict[str, Any]

STEPS_PER_UNIT = 2**20
"""Vectors are sent as whole numbers of such steps: of a cosine only the direction counts, and Elasticsearch reads them
in half the time. Half precision is coarser, but for numbers below 0.001."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a stored document: `num_records` of it may exist; no hash: its writing was cut off.

    `copied_from`: the content hash of what it is a copy of, where a reindex wrote it.
    """

    num_records: int
    content_hash: str
    copied_from: str | None
    image_ids: list[str]


def record_id(tenant: str, document_id: str, number: int) -> str:
    """The `_id` of a record: the same for the same document, whoever writes it, and another for every tenant."""
    return f"{_document_key(tenant, document_id)}.{number}"


@lru_cache(maxsize=4_096)  # a search asks for the same ones several times
def _document_key(tenant: str, document_id: str) -> str:
    digest = hashlib.sha256(f"{len(tenant)}:{tenant}{document_id}".encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest[:18]).decode()


def records_of(tenant: str, encoded: EncodedDocument, copied_from: str | None = None) -> Iterator[Record]:
    """The records of a document, number 0 first."""
    document = encoded.document
    metadata = {field_key(name): field_values(value) for name, value in document.metadata.items()}
    title, labels = fold(document.title), fold("\n".join(document.labels))
    covered = 0
    for number in range(num_records_of(encoded)):
        record: Record = {
            "tenant": tenant, "document": document.id, "position": number, "metadata": metadata,
            "content_hash": encoded.content_hash.hex(),
        }  # fmt: skip
        stored: Record = {}
        if number < len(encoded.passages):
            passage = encoded.passages[number]
            record["words"] = {"title": title, "labels": labels, "text": fold(passage.text)}
            stored |= _stored_passage(document.text, covered, passage)
            covered = max(covered, passage.end)
            _put_vector(record, "text_vector", passage.embedding)
        if number < len(encoded.images):
            _put_vector(record, "image_vector", encoded.images[number].embedding)
        record["stored"] = stored
        yield record if number else record | _whole(encoded, stored, copied_from)


def num_records_of(encoded: EncodedDocument) -> int:
    """How many records it takes."""
    return max(len(encoded.passages), len(encoded.images))


def head_of(source: Record) -> Head:
    """What record 0 says of the whole."""
    return Head(
        source["num_records"], source.get("content_hash", ""), source.get("copied_from"), source.get("image_ids", [])
    )


HEAD_FIELDS = ["num_records", "content_hash", "copied_from", "image_ids"]


def belongs(record: Record, head: Record) -> bool:
    """Whether a record is of the content that record 0 is of. (One of an older index does not say.)"""
    content_hash = head.get("content_hash", "")
    return record.get("content_hash", content_hash) == content_hash


def is_whole(records: list[Record]) -> bool:
    """Whether these are all records of a document whose writing was finished."""
    if not records or "num_records" not in records[0]:
        return False
    head = head_of(records[0])
    is_finished = head.content_hash != "" and head.num_records == len(records)
    return is_finished and all(belongs(record, records[0]) for record in records)


def document_of(sources: list[Record], images: dict[str, bytes]) -> Document:
    """The document as it was given, from all of its records' `_source` in order."""
    whole = sources[0]["stored"]["document"]
    text = ""
    for source in sources[: whole["num_passages"]]:
        stored = source["stored"]
        text += stored.get("before", "") + stored["text"][max(0, len(text) - stored["start"]) :]
    text += whole["after"]
    contents = [images[picture["id"]] for picture in whole["pictures"]]
    return Document(sources[0]["document"], whole["title"], text, contents, whole["labels"], whole["metadata"])


def encoded_of(sources: list[Record], images: dict[str, bytes]) -> EncodedDocument:
    """The document with the embeddings it was stored with."""
    whole = sources[0]["stored"]["document"]
    passages = [
        EncodedPassage(stored["text"], stored["start"], stored["end"], vector_of(stored.get("embedding")))
        for stored in (source["stored"] for source in sources[: whole["num_passages"]])
    ]
    pictures = [
        EncodedImage(StoredImage(p["id"], images[p["id"]], p["media_type"]), vector_of(p["embedding"]))
        for p in whole["pictures"]
    ]
    content_hash = bytes.fromhex(head_of(sources[0]).content_hash)
    return EncodedDocument(document_of(sources, images), content_hash, passages, pictures)


def vector_of(text: str | None) -> np.ndarray | None:
    """float16 [dimension]."""
    return None if text is None else np.frombuffer(base64.b64decode(text), dtype=np.float16)


def dimensions_of(documents: Iterable[EncodedDocument]) -> set[int]:
    """The sizes of all embeddings."""
    passages = (passage.embedding for document in documents for passage in document.passages)
    found = {len(embedding) for embedding in passages if embedding is not None}
    return found | {len(image.embedding) for document in documents for image in document.images}


def _whole(encoded: EncodedDocument, stored: Record, copied_from: str | None) -> Record:
    document, passages = encoded.document, encoded.passages
    end = max((passage.end for passage in passages), default=0)
    stored["document"] = {
        "title": document.title, "labels": document.labels, "metadata": document.metadata,
        "num_passages": len(passages), "after": document.text[end:],
        "pictures": [
            {"id": image.image.id, "media_type": image.image.media_type, "embedding": _as_text(image.embedding)}
            for image in encoded.images
        ],
    }  # fmt: skip
    return {
        "label": sorted({normalise_label(label) for label in (document.title, *document.labels)} - {""}),
        "image_ids": sorted({image.image.id for image in encoded.images}),
        "num_records": num_records_of(encoded),
        "copied_from": copied_from,
    }


def _stored_passage(text: str, covered: int, passage: EncodedPassage) -> Record:
    # Passages overlap, and may leave a gap: with `before` all of the text can be put together again.
    stored: Record = {"text": passage.text, "start": passage.start, "end": passage.end}
    if passage.start > covered:
        stored["before"] = text[covered : passage.start]
    if passage.embedding is not None:
        stored["embedding"] = _as_text(passage.embedding)
    return stored


def _put_vector(record: Record, name: str, embedding: np.ndarray | None) -> None:
    if embedding is not None:
        # In the precision in which all stores keep them: they must find the same.
        half = np.asarray(embedding, dtype=np.float16).astype(np.float32)
        record[name] = np.rint(half * STEPS_PER_UNIT).astype(np.int32)


def _as_text(embedding: np.ndarray) -> str:
    return base64.b64encode(np.asarray(embedding, dtype=np.float16).tobytes()).decode()
