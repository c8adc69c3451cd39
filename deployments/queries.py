"""From request bodies to queries and documents."""

from typing import Any

from starlette.requests import Request

from deployments.body import off_loop, parse_json, read_form, read_json, validated
from deployments.http_errors import shortened
from deployments.schema import AnswerBody, DocumentBody, DocumentsBody, EmbeddingsBody, SearchBody
from mmrag.config import Limits
from mmrag.errors import InvalidRequest, TooLarge
from mmrag.images import parse_data_uri
from mmrag.knowledge.ingest import refusal_of_all
from mmrag.types import Document, Query, Sampling
from mmrag.validation import check_document, check_text

QUESTION_BYTES = 2**20
"""What a question may have beside its picture."""


async def read_query(request: Request, model: type[SearchBody], tenant: str, limits: Limits) -> tuple[Query, bool]:
    """The query in a JSON or multipart body, and whether its answer is to be streamed."""
    max_bytes = min(limits.max_request_bytes, limits.max_image_bytes * 4 // 3 + QUESTION_BYTES)
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        body, image = _from_form(await read_form(request, limits, max_bytes), model)
    else:
        body, image = await read_json(request, lambda fields: validated(fields, model), limits, max_bytes), None
    if body.image is not None:
        uri = body.image
        image = await off_loop(len(uri), lambda: parse_data_uri(uri, limits.max_image_bytes))
    return _query(body, image, tenant), getattr(body, "stream", False)


async def read_documents(request: Request, limits: Limits) -> list[Document]:
    """The documents in a body, checked, their pictures decoded from base64; an error names all that are bad."""
    return await read_json(request, lambda fields: _documents(fields, limits), limits, limits.max_request_bytes)


async def read_inputs(request: Request, limits: Limits) -> tuple[list[str | bytes], EmbeddingsBody]:
    """What is to be embedded: texts as str, images as bytes."""
    max_bytes = limits.max_request_bytes
    body = await read_json(request, lambda fields: validated(fields, EmbeddingsBody), limits, max_bytes)
    inputs = [body.input] if isinstance(body.input, str) else body.input
    if not inputs:
        raise InvalidRequest("input is empty", param="input")
    if len(inputs) > limits.max_inputs:
        raise TooLarge(f"at most {limits.max_inputs:,} inputs at a time", param="input")
    num_chars = sum(len(value) for value in inputs)
    return await off_loop(num_chars, lambda: [_input(i, value, limits) for i, value in enumerate(inputs)]), body


def _from_form(fields: dict[str, Any], model: type[SearchBody]) -> tuple[SearchBody, bytes | None]:
    image = fields.pop("image") if isinstance(fields.get("image"), bytes) else None
    _check_files(fields, model)
    for name in ("labels", "stop"):
        if isinstance(fields.get(name), str):
            fields[name] = [fields[name]]
    if isinstance(fields.get("filters"), str):
        fields["filters"] = parse_json(fields["filters"].encode("utf-8", "surrogatepass"), "filters")
    return validated(fields, model, strict=False), image


def _check_files(fields: dict[str, Any], model: type[SearchBody]) -> None:
    """Raise InvalidRequest unless the one picture was sent as a file, or as a data URI, and all else as text."""
    named = fields.get("image")
    if isinstance(named, list):
        raise InvalidRequest("image is there more than once; a question has one picture", param="image")
    if isinstance(named, str) and named[:5].lower() != "data:":
        shown = shortened(named)
        raise InvalidRequest(f"image is the text {shown!r} and no file; curl: -F image=@{shown}", param="image")
    for name, value in fields.items():
        if any(isinstance(one, bytes) for one in (value if isinstance(value, list) else [value])):
            if name in model.model_fields:
                raise InvalidRequest(f"{name} must be text, not a file", param=name)
            name = shortened(name)
            raise InvalidRequest(f"unknown field {name!r}: a picture is sent as 'image'", param=name)


def _query(body: SearchBody, image: bytes | None, tenant: str) -> Query:
    fields = {"text": body.text, "image": image, "top_k": body.top_k, "filters": body.filters, "tenant": tenant}
    if isinstance(body, AnswerBody):
        fields |= {
            "task": body.task,
            "labels": body.labels,
            "explain": body.explain,
            "max_new_tokens": body.max_new_tokens,
            "sampling": _sampling(body),
        }
    return Query(**fields)


def _sampling(body: AnswerBody) -> Sampling:
    return Sampling(
        temperature=body.temperature,
        top_k=body.sampling_top_k,
        top_p=body.top_p,
        seed=body.seed,
        stop=tuple(body.stop),
    )


def _documents(fields: Any, limits: Limits) -> list[Document]:
    try:
        bodies: list[Any] = validated(fields, DocumentsBody).documents
    except InvalidRequest as error:
        if not (error.param or "").startswith("documents["):
            raise
        bodies = fields["documents"]  # one of them is bad: each is looked at below
    documents: list[Document] = []
    errors: dict[int, InvalidRequest] = {}
    for i, body in enumerate(bodies):
        try:
            documents.append(_document(body, limits))
        except InvalidRequest as error:
            errors[i] = error
    if errors:
        raise refusal_of_all([_id_of(body) for body in bodies], errors)
    return documents


def _document(body: Any, limits: Limits) -> Document:
    if not isinstance(body, DocumentBody):
        body = validated(body, DocumentBody, name="a document")
    images = [parse_data_uri(uri, limits.max_image_bytes, f"images[{j}]") for j, uri in enumerate(body.images)]
    document = Document(body.id, body.title, body.text, images, body.labels, body.metadata)
    check_document(document, limits)
    return document


def _id_of(body: Any) -> Any:
    return body.get("id") if isinstance(body, dict) else getattr(body, "id", None)


def _input(index: int, value: str, limits: Limits) -> str | bytes:
    param = f"input[{index}]"
    if not value:
        raise InvalidRequest(f"{param} is empty; give a text or an image", param=param)
    if value[:11].lower() == "data:image/":
        return parse_data_uri(value, limits.max_image_bytes, param)
    check_text(value, param, limits.max_text_chars)
    return value
