"""Errors become HTTP here and nowhere else: one JSON shape, one map from error to status."""

import math
from typing import get_args

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from deployments.rendering import json_response
from mmrag import errors
from mmrag.near_miss import near_miss


class MalformedBody(errors.InvalidRequest):
    """The body cannot even be parsed."""


class SlowBody(errors.InvalidRequest):
    """The body did not arrive in time."""


STATUS: dict[type[errors.MmragError], tuple[int, str]] = {
    MalformedBody: (400, "malformed_request"),
    SlowBody: (408, "request_timeout"),
    errors.TooLarge: (413, "too_large"),
    errors.UnsupportedMedia: (415, "unsupported_media"),
    errors.InvalidImage: (422, "invalid_image"),
    errors.InvalidRequest: (422, "invalid_request"),
    errors.Unauthorized: (401, "unauthorized"),
    errors.NotFound: (404, "not_found"),
    errors.Overloaded: (429, "overloaded"),
    errors.DeadlineExceeded: (504, "deadline_exceeded"),
    errors.Unavailable: (503, "unavailable"),
}
UNAVAILABLE_RETRY_AFTER_S = 5
MAX_ECHO_CHARS = 80


def error_body(error: Exception) -> dict:
    """`{"error": {"type", "message", "param"}}`; what nobody raised on purpose says nothing of the inside."""
    _, kind = _status(error)
    message = str(error) if kind != "internal" else "something went wrong inside; the service's log says what"
    return {"error": {"type": kind, "message": message, "param": getattr(error, "param", None)}}


def error_response(error: Exception) -> Response:
    """The whole response for `error`."""
    status, _ = _status(error)
    return json_response(error_body(error), status, _headers(error))


def invalid_field(error: ValidationError, model: type[BaseModel]) -> errors.InvalidRequest:
    """The first thing wrong with a body, in plain words, with its dotted path."""
    problems = error.errors(include_url=False, include_input=False)
    # Where several types are allowed each has its complaint: the deepest is about the one that was meant. (There are
    # few to build: the schema stops at the first bad item of a list, and bounds all objects.)
    about_one_field = [problem for problem in problems if problem["loc"][:1] == problems[0]["loc"][:1]]
    first = max(about_one_field, key=lambda problem: (problem["type"] == "too_long", len(problem["loc"])))
    path = [part for part in first["loc"] if not _is_union_arm(part)]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    param = shortened(param) or None
    if first["type"] == "too_long":
        return errors.TooLarge(
            f"{param or 'the body'} has more than {first['ctx']['max_length']:,} entries", param=param
        )
    if first["type"] == "extra_forbidden":
        return errors.InvalidRequest(f"unknown field {param!r}{_did_you_mean(path, model)}", param=param)
    if first["type"] == "missing":
        return errors.InvalidRequest(f"{param} is missing", param=param)
    message = first["msg"].removeprefix("Input ")
    return errors.InvalidRequest(f"{param or 'the body'} {message[:1].lower()}{message[1:]}", param=param)


def install(app: FastAPI) -> None:
    """Make every error of `app` speak the one shape, unknown routes and wrong methods included."""

    async def on_error(request: Request, error: Exception) -> Response:
        return error_response(error)

    async def on_http(request: Request, error: HTTPException) -> Response:
        messages = {
            404: f"there is nothing at {shortened(request.url.path)}; GET /docs shows what there is",
            405: f"{shortened(request.url.path)} does not take {request.method}",
        }
        kind = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        body = {"type": kind, "message": messages.get(error.status_code, str(error.detail)), "param": None}
        return json_response({"error": body}, error.status_code, error.headers)

    app.add_exception_handler(errors.MmragError, on_error)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_error)


def shortened(text: str) -> str:
    """What the caller sent is named in an error, not sent back whole."""
    return text if len(text) <= MAX_ECHO_CHARS else text[: MAX_ECHO_CHARS - 1] + "…"


def _status(error: Exception) -> tuple[int, str]:
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500, "internal"


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, errors.Overloaded):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, errors.Unavailable | errors.DeadlineExceeded):
        return {"retry-after": str(UNAVAILABLE_RETRY_AFTER_S)}
    if isinstance(error, errors.Unauthorized):
        return {"www-authenticate": "Bearer"}
    return {}


def _is_union_arm(part: str | int) -> bool:
    # Pydantic puts the name of the union's member that failed into the path: "input.list[str].3".
    return isinstance(part, str) and (part in ("str", "int", "float", "bool") or "[" in part)


def _did_you_mean(path: list[str | int], model: type[BaseModel]) -> str:
    known = sorted(_model_at(path[:-1], model).model_fields)
    return near_miss(str(path[-1]), known) or f"; known are {', '.join(known)}"


def _model_at(path: list[str | int], model: type[BaseModel]) -> type[BaseModel]:
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        for inner in get_args(annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return model
