"""Responses: JSON, server-sent events, OpenAI's shape of embeddings."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as JSON; numpy arrays are written without a detour over Python lists."""
    content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, headers, media_type="application/json")


def server_sent_event(name: str, body: Any) -> bytes:
    """One event of a text/event-stream."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


def embeddings_view(embeddings: np.ndarray, model: str, encoding_format: str, num_tokens: int) -> dict[str, Any]:
    """OpenAI's shape of float32 [n, dimension]; `num_tokens` were read for it."""
    rows = embeddings.astype("<f4", copy=False)
    as_base64 = encoding_format == "base64"
    values = [base64.b64encode(row.tobytes()).decode() if as_base64 else row for row in rows]
    data = [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(values)]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}
