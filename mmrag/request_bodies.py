"""What callers write in Python, as the HTTP API takes it: pictures as data URIs, documents as JSON objects."""

import base64
import dataclasses
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from mmrag.errors import InvalidRequest, UnsupportedMedia
from mmrag.images import sniff_media_type
from mmrag.types import Document

Picture = bytes | str | PathLike[str]
"""An encoded file's bytes, its path, or a data URI."""

DocumentLike = Document | Mapping[str, Any]
"""A Document, or a dictionary with its fields; each of its images a Picture."""

_DOCUMENT_FIELDS = [field.name for field in dataclasses.fields(Document)]


def picture_uri(picture: Picture, param: str = "image") -> str:
    """A picture as a data URI; raises InvalidRequest (or UnsupportedMedia) where it is none."""
    if isinstance(picture, str) and picture.startswith("data:"):
        return picture
    content = _read(picture, param) if isinstance(picture, str | PathLike) else picture
    if not isinstance(content, bytes | bytearray | memoryview):
        kind = type(picture).__name__
        raise InvalidRequest(f"{param} must be a path, the bytes of a file, or a data URI, not {kind}", param=param)
    try:
        return f"data:{sniff_media_type(bytes(content))};base64,{base64.b64encode(content).decode()}"
    except UnsupportedMedia as error:
        name = "" if content is picture else f" {picture!s:.200}"
        raise UnsupportedMedia(f"{param}{name}: {error}", param=param) from error


def query_body(text: str | None, image: Picture | None, fields: dict[str, Any]) -> dict[str, Any]:
    """A question; fields that are None are left out."""
    body = {name: value for name, value in fields.items() if value is not None}
    if text is not None:
        body["text"] = text
    if image is not None:
        body["image"] = picture_uri(image)
    return body


def document_bodies(documents: DocumentLike | Iterable[DocumentLike]) -> list[dict[str, Any]]:
    """Documents as JSON objects; one alone may stand for a list of one."""
    if isinstance(documents, Document | Mapping):
        documents = [documents]
    return [document_body(document) for document in documents]


def document_body(document: DocumentLike) -> dict[str, Any]:
    """A document as a JSON object. As in a JSONL file, a dictionary may have one picture as `image`.

    Raises:
        InvalidRequest: it is no document, or a picture cannot be read. (Its fields are checked by the service.)
    """
    if isinstance(document, Document):
        fields = {name: getattr(document, name) for name in _DOCUMENT_FIELDS}
    elif isinstance(document, Mapping):
        fields = dict(document)
    else:
        kind = type(document).__name__
        raise InvalidRequest(f'a document must be a Document or a dict {{"id": …, "text": …}}, not {kind}')
    images = _pop_pictures(fields)
    return fields | {"images": [picture_uri(picture, "images") for picture in images]} if images else fields


def embeddings_body(inputs: str | Picture | Iterable[str | Picture]) -> dict[str, Any]:
    """Texts as they are, pictures (bytes or a Path) as data URIs; one alone may stand for a list of one."""
    several = [inputs] if isinstance(inputs, str | bytes | PathLike) else inputs
    values = [value if isinstance(value, str) else picture_uri(value, "input") for value in several]
    return {"input": values, "encoding_format": "base64"}


def _pop_pictures(fields: dict[str, Any]) -> list[Picture]:
    images = fields.pop("images", None) or []
    images = [images] if isinstance(images, str | bytes | PathLike) else list(images)
    return images + [image for image in [fields.pop("image", None)] if image is not None]


def _read(path: str | PathLike[str], param: str) -> bytes:
    if isinstance(path, str) and path.startswith(("http://", "https://")):
        raise InvalidRequest(f"{param} {path:.80} is an address: fetch the picture and give its bytes", param=param)
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidRequest(
            f"{param} {path!s:.200}: {reason}; give a path, bytes or a data URI", param=param
        ) from error
