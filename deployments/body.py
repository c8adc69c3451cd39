"""Request bodies of strangers: read with bounds, parsed strictly."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from deployments.http_errors import MalformedBody, SlowBody, invalid_field, shortened
from deployments.json_values import MAX_VALUES, has_too_many_values
from mmrag.config import Limits
from mmrag.errors import InvalidRequest, TooLarge, UnsupportedMedia

Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")

MAX_INLINE_BYTES = 64 * 1024
"""Larger bodies are parsed in a thread, so that they do not hold up everyone else."""

CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")
"""Of forms. Others would choose among Python's codecs, of which some take the square of the length."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_json(request: Request, read: Callable[[Any], T], limits: Limits, max_bytes: int) -> T:
    """What `read` makes of the body's JSON; see `validated`.

    Raises:
        MalformedBody: no JSON, or JSON that would mean different things to different readers.
        UnsupportedMedia: it says it is something else, or is compressed.
        TooLarge: more than `max_bytes`, or too many values.
        SlowBody: it takes longer than `limits` allow.
        InvalidRequest: from `read`.
    """
    # A missing type is no JSON either: browsers send such bodies for any page, without asking whether they may.
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        wanted = "send JSON with the header content-type: application/json (curl: -H 'content-type: application/json')"
        raise UnsupportedMedia(f"the content-type is {media_type or 'missing'}; {wanted}")
    body = await _read(request, limits, max_bytes)
    return await off_loop(len(body), lambda: read(parse_json(body)))


async def read_form(request: Request, limits: Limits, max_bytes: int) -> dict[str, Any]:
    """The fields of a multipart/form-data body: text as str, files as bytes, repeated fields as lists.

    Raises MalformedBody, UnsupportedMedia, TooLarge, SlowBody.
    """
    _, options = parse_options_header(request.headers["content-type"])
    charset = options.get(b"charset", b"utf-8").decode("latin-1").lower()
    if charset not in CHARSETS:
        raise UnsupportedMedia(f"the charset of the form is {shortened(charset)}; send it in utf-8")
    body = await _read(request, limits, max_bytes)
    parsing = _parse_form(request.headers, body, limits)
    return await (parsing if len(body) <= MAX_INLINE_BYTES else asyncio.to_thread(asyncio.run, parsing))


async def _parse_form(headers: Headers, body: bytes, limits: Limits) -> dict[str, Any]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(headers, stream(), max_files=4, max_fields=100, max_part_size=limits.max_image_bytes * 2)
    # Files stay in memory: the body is bounded anyway.
    parser.spool_max_size = len(body) + 1
    boundary = parse_options_header(headers.get("content-type"))[1].get(b"boundary")
    if boundary and b"--%b--" % boundary not in body:
        raise MalformedBody("the multipart body ends early: its last boundary is missing")
    try:
        form = await parser.parse()
        return {name: await _values(form, name) for name in form}
    except MultiPartException as error:
        raise MalformedBody(f"the multipart body cannot be read: {error.message}") from error


async def off_loop(num_bytes: int, work: Callable[[], T]) -> T:
    """Do small work here and large work in a thread."""
    return work() if num_bytes <= MAX_INLINE_BYTES else await asyncio.to_thread(work)


def parse_json(body: bytes, param: str | None = None) -> Any:
    """JSON as RFC 8259 means it: no NaN, no duplicate keys, no lone surrogates, no bottomless nesting.

    Args:
        param: the field that it is from, where it is not the whole body.

    Raises MalformedBody, and TooLarge for very many values.
    """
    name = param or "the body"
    if has_too_many_values(body):
        raise TooLarge(f"{name} holds more than {MAX_VALUES:,} values", param)
    try:
        parsed = json.loads(body.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        if _SURROGATE.search(body):
            json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise MalformedBody(f"{name} is not UTF-8: {error.reason} at byte {error.start}", param) from error
    except UnicodeEncodeError as error:
        raise MalformedBody(f"{name} contains a lone surrogate, which is not text", param) from error
    except RecursionError as error:
        raise MalformedBody(f"{name} is nested too deeply", param) from error
    except ValueError as error:
        why = "a number has too many digits" if "int_max_str_digits" in str(error) else error
        raise MalformedBody(f"{name} is not valid JSON: {why}", param) from error
    return parsed


def validated(fields: Any, model: type[Model], strict: bool = True, name: str = "the body") -> Model:
    """`fields`, called `name`, as a `model`; raises InvalidRequest with the field at fault."""
    if not isinstance(fields, dict):
        raise InvalidRequest(f"{name} must be a JSON object")
    try:
        return model.model_validate(fields, strict=strict)
    except ValidationError as error:
        raise invalid_field(error, model) from error


async def _read(request: Request, limits: Limits, max_bytes: int) -> bytes:
    try:
        async with asyncio.timeout(limits.timeout_s):
            return b"".join([chunk async for chunk in _bounded(request, max_bytes)])
    except TimeoutError as error:
        raise SlowBody(f"the body did not arrive within {limits.timeout_s:g} s") from error


async def _bounded(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UnsupportedMedia(f"the body is compressed with {encoding}; send it as it is")
    num_bytes = 0
    try:
        async for chunk in request.stream():
            num_bytes += len(chunk)  # counted, because Content-Length may lie or be missing
            if num_bytes > max_bytes:
                raise TooLarge(f"the body has more than {max_bytes:,} bytes; send less, or make the picture smaller")
            yield chunk
    except ClientDisconnect as error:
        raise MalformedBody("the body ended early") from error


async def _values(form: FormData, name: str) -> Any:
    values = [await value.read() if isinstance(value, UploadFile) else value for value in form.getlist(name)]
    return values[0] if len(values) == 1 else values


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"{name!r} is there twice")
        fields[name] = value
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
