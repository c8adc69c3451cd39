"""What a caller may send. Every check names the field, the limit, and how to mend the request."""

import json
import math
from collections.abc import Sequence

from mmrag.config import Limits
from mmrag.errors import InvalidRequest, TooLarge
from mmrag.near_miss import near_miss
from mmrag.types import Document, Filters, MetadataValue, Query, Sampling

MAX_ID_CHARS = 512
MAX_CLASSIFY_LABEL_CHARS = 200
"""Every label that is to be chosen among is scored by the decoder."""

MAX_TEMPERATURE = 2
MAX_SAMPLING_TOP_K = 1_000
MAX_STOPS = 8
MAX_STOP_CHARS = 64

MAX_NAMED_FIELDS = 20
"""Of the fields that there are so many are named where a filter is on another."""

MAX_METADATA_FIELDS = 64
MAX_METADATA_VALUES = 64
MAX_METADATA_CHARS = 4_096
MAX_METADATA_BYTES = 16 * 1024
"""All fields of a document together, names included: they come with each of its passages."""


def check_query(query: Query, limits: Limits) -> None:
    """Raise InvalidRequest (or TooLarge) unless `query` can be answered within `limits`."""
    if query.text is not None:
        check_text(query.text, "text", limits.max_text_chars)
    if not (query.text and query.text.strip()) and query.image is None:
        raise InvalidRequest("give a text, an image, or both: the query is empty", param="text")
    if query.task not in ("answer", "caption", "classify"):
        raise InvalidRequest('task must be "answer", "caption" or "classify"', param="task")
    if not 1 <= query.top_k <= limits.max_top_k:
        raise InvalidRequest(f"top_k must be from 1 to {limits.max_top_k}", param="top_k")
    if query.max_new_tokens is not None and not 1 <= query.max_new_tokens <= limits.max_new_tokens:
        raise InvalidRequest(f"max_new_tokens must be from 1 to {limits.max_new_tokens}", param="max_new_tokens")
    _check_sampling(query.sampling)
    if query.image is not None and len(query.image) > limits.max_image_bytes:
        raise TooLarge(f"image has more than {limits.max_image_bytes:,} bytes; make it smaller", param="image")
    _check_labels(query.labels, limits, MAX_CLASSIFY_LABEL_CHARS)
    _check_metadata(query.filters, "filters")


def check_filter_fields(filters: Filters, known: Sequence[str]) -> None:
    """Raise InvalidRequest for a filter on a field that is not among those `known`; where none is, all pass."""
    for name in filters:
        if known and name not in known:
            named = ", ".join(known[:MAX_NAMED_FIELDS]) + (", …" if len(known) > MAX_NAMED_FIELDS else "")
            meant = near_miss(name, known) or f"; there are {named}"
            raise InvalidRequest(
                f"filters: no document has a metadata field {name!r:.200}{meant}", f"filters.{name:.200}"
            )


def check_document(document: Document, limits: Limits) -> None:
    """Raise InvalidRequest (or TooLarge) unless `document` can be stored within `limits`."""
    if not document.id.strip():
        raise InvalidRequest("id must not be empty", param="id")
    check_text(document.id, "id", MAX_ID_CHARS)
    if document.id in (".", "..") or not document.id.isprintable():
        raise InvalidRequest('id must be printable, and neither "." nor ".."', param="id")
    check_text(document.title, "title", limits.max_text_chars)
    check_text(document.text, "text", limits.max_document_chars)
    if not (document.title.strip() or document.text.strip() or document.images):
        raise InvalidRequest("a document needs a title, a text or an image", param="text")
    if len(document.images) > limits.max_images_per_document:
        raise TooLarge(f"a document may have at most {limits.max_images_per_document} images", param="images")
    _check_labels(document.labels, limits, MAX_ID_CHARS)
    _check_metadata(document.metadata, "metadata")


def check_text(text: str, param: str, max_chars: int) -> None:
    """Raise unless `text` is at most `max_chars` long and can be stored as UTF-8 without NUL."""
    if len(text) > max_chars:
        raise TooLarge(f"{param} has {len(text):,} characters; at most {max_chars:,} are allowed", param=param)
    if "\x00" in text:
        raise InvalidRequest(f"{param} contains a NUL character", param=param)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{param} contains a lone surrogate, which is not text", param=param) from error


def _check_sampling(sampling: Sampling) -> None:
    bounds = {"temperature": (0, MAX_TEMPERATURE), "top_k": (0, MAX_SAMPLING_TOP_K), "seed": (0, 2**63 - 1)}
    for name, (least, most) in bounds.items():
        value = getattr(sampling, name)
        if value is not None and not least <= value <= most:
            param = "sampling_top_k" if name == "top_k" else name
            raise InvalidRequest(f"{param} must be from {least:,} to {most:,}", param=param)
    if not 0 < sampling.top_p <= 1:
        raise InvalidRequest("top_p must be more than 0 and at most 1", param="top_p")
    if len(sampling.stop) > MAX_STOPS:
        raise TooLarge(f"stop: at most {MAX_STOPS} strings are allowed", param="stop")
    for stop in sampling.stop:
        check_text(stop, "stop", MAX_STOP_CHARS)
        if not stop:
            raise InvalidRequest("a stop string must not be empty", param="stop")


def _check_labels(labels: list[str], limits: Limits, max_chars: int) -> None:
    if len(labels) > limits.max_labels:
        raise TooLarge(f"labels: at most {limits.max_labels} are allowed", param="labels")
    for label in labels:
        check_text(label, "labels", max_chars)
        if not label.strip():
            raise InvalidRequest("a label must not be empty", param="labels")


def _check_metadata(fields: dict[str, MetadataValue], param: str) -> None:
    if len(fields) > MAX_METADATA_FIELDS:
        raise TooLarge(f"{param}: at most {MAX_METADATA_FIELDS} fields are allowed", param=param)
    for name, value in fields.items():
        check_text(name, param, MAX_ID_CHARS)
        if not name.strip():
            raise InvalidRequest(f"{param}: a field needs a name", param=param)
        if isinstance(value, list) and len(value) > MAX_METADATA_VALUES:
            raise TooLarge(f"{param}.{name} has more than {MAX_METADATA_VALUES} entries", param=f"{param}.{name}")
        for part in value if isinstance(value, list) else [value]:
            _check_scalar(part, f"{param}.{name}")
    if len(json.dumps(fields, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
        raise TooLarge(f"{param} has more than {MAX_METADATA_BYTES:,} bytes in all", param=param)


def _check_scalar(value: MetadataValue, param: str) -> None:
    if isinstance(value, str):
        check_text(value, param, MAX_METADATA_CHARS)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"{param} must be a finite number", param=param)
    elif not isinstance(value, (bool, int, float)):
        raise InvalidRequest(f"{param} must be a string, a number, a boolean or a list of strings", param=param)
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InvalidRequest(f"{param} does not fit in 64 bits", param=param)
