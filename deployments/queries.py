"""From request bodies to queries and documents."""

from typing import Any

from starlette.requests import Request

from deployments.body import off_loop, parse_json, read_form, read_json, validated
from deployments.schema import AnswerBody, DocumentsBody, EmbeddingsBody, SearchBody
from mmrag.config import Limits
from mmrag.errors import InvalidRequest, TooLarge
from mmrag.images import parse_data_uri
from mmrag.types import Document, Query, Sampling
from mmrag.validation import check_text


async def read_query(request: Request, model: type[SearchBody], tenant: str, limits: Limits) -> tuple[Query, bool]:
    """The query in a JSON or multipart body, and whether its answer is to be streamed."""
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        body, image = _from_form(await read_form(request, limits), model)
    else:
        body, image = await read_json(request, model, limits), None
    if body.image is not None:
        uri = body.image
        image = await off_loop(len(uri), lambda: parse_data_uri(uri, limits.max_image_bytes))
    return _query(body, image, tenant), getattr(body, "stream", False)


async def read_documents(request: Request, limits: Limits) -> list[Document]:
    """The documents in a body, their pictures decoded from base64."""
    body = await read_json(request, DocumentsBody, limits)
    num_chars = sum(len(uri) for document in body.documents for uri in document.images)
    return await off_loop(num_chars, lambda: _documents(body, limits))


async def read_inputs(request: Request, limits: Limits) -> tuple[list[str | bytes], EmbeddingsBody]:
    """What is to be embedded: texts as str, images as bytes."""
    body = await read_json(request, EmbeddingsBody, limits)
    inputs = [body.input] if isinstance(body.input, str) else body.input
    if not inputs:
        raise InvalidRequest("input is empty", param="input")
    if len(inputs) > limits.max_inputs:
        raise TooLarge(f"at most {limits.max_inputs:,} inputs at a time", param="input")
    num_chars = sum(len(value) for value in inputs)
    return await off_loop(num_chars, lambda: [_input(i, value, limits) for i, value in enumerate(inputs)]), body


def _from_form(fields: dict[str, Any], model: type[SearchBody]) -> tuple[SearchBody, bytes | None]:
    image = fields.pop("image") if isinstance(fields.get("image"), bytes) else None
    for name, value in fields.items():
        if isinstance(value, bytes):
            raise InvalidRequest(f"{name} must be a text field, not a file", param=name)
    for name in ("labels", "stop"):
        if isinstance(fields.get(name), str):
            fields[name] = [fields[name]]
    if isinstance(fields.get("filters"), str):
        fields["filters"] = parse_json(fields["filters"].encode("utf-8", "surrogatepass"))
    return validated(fields, model, strict=False), image


def _query(body: SearchBody, image: bytes | None, tenant: str) -> Query:
    fields = {"text": body.text, "image": image, "top_k": body.top_k, "filters": body.filters, "tenant": tenant}
    if isinstance(body, AnswerBody):
        fields |= {
            "task": body.task,
            "labels": body.labels,
            "explain": body.explain,
            "max_new_tokens": body.max_new_tokens,
            "sampling": Sampling(body.temperature, body.sampling_top_k, body.top_p, body.seed, tuple(body.stop)),
        }
    return Query(**fields)


def _documents(body: DocumentsBody, limits: Limits) -> list[Document]:
    return [
        Document(
            id=document.id,
            title=document.title,
            text=document.text,
            images=[
                parse_data_uri(uri, limits.max_image_bytes, f"documents[{i}].images[{j}]")
                for j, uri in enumerate(document.images)
            ],
            labels=document.labels,
            metadata=document.metadata,
        )
        for i, document in enumerate(body.documents)
    ]


def _input(index: int, value: str, limits: Limits) -> str | bytes:
    param = f"input[{index}]"
    if value[:11].lower() == "data:image/":
        return parse_data_uri(value, limits.max_image_bytes, param)
    check_text(value, param, limits.max_text_chars)
    return value
