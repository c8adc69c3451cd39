"""What the HTTP API answers, as Python: embeddings as arrays, events one by one, refusals as the errors they name."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np

from mmrag import errors
from mmrag.errors import InvalidRequest

_ERRORS: dict[str, type[errors.MmragError]] = {
    "too_large": errors.TooLarge,
    "unsupported_media": errors.UnsupportedMedia,
    "invalid_image": errors.InvalidImage,
    "unauthorized": errors.Unauthorized,
    "not_found": errors.NotFound,
    "overloaded": errors.Overloaded,
    "deadline_exceeded": errors.DeadlineExceeded,
    "unavailable": errors.Unavailable,
    "internal": errors.Unavailable,
}
"""The `type` of an error in a response -> what it is here; any other is an InvalidRequest."""


class Events:
    """The events of a streamed answer: its text in pieces, then the whole answer."""

    def __init__(self) -> None:
        self._name = ""

    def read(self, line: str) -> Iterator[str | dict]:
        """What this line of the response ends; raises the error that it tells of."""
        field, _, value = line.partition(": ")
        if field == "event":
            self._name = value
        elif field == "data":
            data = json.loads(value)
            if self._name == "error":
                raise _error(data["error"], {})
            yield data["text"] if self._name == "token" else data


def json_of(response: httpx.Response) -> Any:
    """The parsed body; raises Unavailable where it is no JSON."""
    try:
        return response.json()
    except ValueError as error:
        raise _not_mmrag(response) from error


def components_of(response: httpx.Response) -> dict[str, str]:
    """What /readyz says of each component; raises Unavailable where it is not mmrag that answers."""
    try:
        return response.json()["components"]
    except (ValueError, KeyError, TypeError) as error:
        raise _not_mmrag(response) from error


def embeddings_of(body: dict[str, Any]) -> np.ndarray:
    """float32 [n, dimension]."""
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in body["data"]]
    return np.stack(rows)


def error_of(response: httpx.Response) -> errors.MmragError:
    """The error that a refusal names, to be raised."""
    try:
        return _error(response.json()["error"], response.headers)
    except (ValueError, KeyError, TypeError):
        return errors.Unavailable(f"the service answered with status {response.status_code}, and no word why")


def _not_mmrag(response: httpx.Response) -> errors.Unavailable:
    return errors.Unavailable(f"what answers at {response.url} is not mmrag: is the address right?")


def _error(detail: dict[str, Any], headers: Any) -> errors.MmragError:
    kind = _ERRORS.get(detail["type"], InvalidRequest)
    if issubclass(kind, InvalidRequest):
        return kind(detail["message"], detail.get("param"))
    if kind is errors.Overloaded:
        return errors.Overloaded(detail["message"], float(headers.get("retry-after", 1)))
    return kind(detail["message"])
