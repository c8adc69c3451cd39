"""Our types as JSON and as server-sent events."""

import base64
import urllib.parse
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from mmrag.images import image_id
from mmrag.types import Answer, Document, IngestReport, Passage


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as JSON; numpy arrays are written without a detour over Python lists."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, headers, media_type="application/json")


def server_sent_event(name: str, body: Any) -> bytes:
    """One event of a text/event-stream."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


def answer_view(answer: Answer) -> dict[str, Any]:
    """The answer as the API shows it; `labels` and `attribution` only where there are any."""
    view: dict[str, Any] = {"id": answer.id, "answer": answer.answer}
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


def embeddings_view(embeddings: np.ndarray, model: str, encoding_format: str) -> dict[str, Any]:
    """OpenAI's shape of float32 [n, dimension]. Tokens are not counted: `usage` is zero."""
    rows = embeddings.astype("<f4", copy=False)
    as_base64 = encoding_format == "base64"
    values = [base64.b64encode(row.tobytes()).decode() if as_base64 else row for row in rows]
    data = [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(values)]
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": 0, "total_tokens": 0}}


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
