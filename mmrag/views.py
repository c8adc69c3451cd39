"""Our types as plain dictionaries: what the HTTP API sends and the command line prints."""

import urllib.parse
from dataclasses import asdict
from typing import Any

from mmrag.images import image_id
from mmrag.types import Answer, Document, IngestReport, Passage


def answer_view(answer: Answer) -> dict[str, Any]:
    """The answer as users see it; `labels` and `attribution` only where there are any."""
    view: dict[str, Any] = {"id": answer.id, "answer": answer.answer, "finish_reason": answer.finish_reason}
    if answer.labels is not None:
        view["labels"] = [asdict(label) for label in answer.labels]
    view["passages"] = [passage_view(passage) for passage in answer.passages]
    if answer.attribution is not None:
        view["attribution"] = asdict(answer.attribution)
    return view | {"degraded": answer.degraded, "timings_ms": answer.timings_ms}


def search_view(answer: Answer) -> dict[str, Any]:
    """What was found, without an answer."""
    passages = [passage_view(passage) for passage in answer.passages]
    return {"passages": passages, "degraded": answer.degraded, "timings_ms": answer.timings_ms}


def passage_view(passage: Passage) -> dict[str, Any]:
    """A passage without its embeddings."""
    return {
        "id": passage.id,
        "document_id": passage.document_id,
        "title": passage.title,
        "text": passage.text,
        "image_url": image_url(passage.image_id) if passage.image_id else None,
        "score": passage.score,
        "branches": passage.branches,
        "similarities": passage.similarities,
        "start": passage.start,
        "end": passage.end,
        "labels": passage.labels,
        "metadata": passage.metadata,
    }


def document_view(document: Document) -> dict[str, Any]:
    """A stored document; its pictures by their addresses."""
    return {
        "id": document.id,
        "title": document.title,
        "text": document.text,
        "images": [image_url(image_id(content)) for content in document.images],
        "labels": document.labels,
        "metadata": document.metadata,
    }


def ingest_view(report: IngestReport) -> dict[str, int]:
    """Counts of what was written."""
    return {
        "upserted": report.num_upserted,
        "unchanged": report.num_unchanged,
        "passages": report.num_passages,
        "images": report.num_images,
    }


def image_url(stored_image_id: str) -> str:
    """Where the API serves a stored picture."""
    return f"/v1/images/{urllib.parse.quote(stored_image_id, safe='')}"
