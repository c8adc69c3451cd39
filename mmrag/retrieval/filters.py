"""Filters on metadata: a field equals a value, or one of several; a list-valued field matches by any element."""

import json

from mmrag.errors import InvalidRequest
from mmrag.types import Filters, MetadataValue

MAX_FIELD_CHARS = 512


def comparable(value: MetadataValue) -> list[str]:
    """The elements of a value in the form in which they are compared: `1` equals `1.0` but neither "1" nor true."""
    return [_comparable(element) for element in (value if isinstance(value, list | tuple) else [value])]


def check_filters(filters: Filters) -> None:
    """Raise InvalidRequest unless every filter has a usable field name and value.

    `mmrag.validation` has checked what comes over the pipeline; this is for safety, for whoever asks a store directly:
    a filter that silently matches everything would show what it was to keep out.
    """
    for name, value in filters.items():
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_FIELD_CHARS:
            raise InvalidRequest(
                f"a filter's field must be a name of 1 to {MAX_FIELD_CHARS} characters", param="filters"
            )
        for element in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(element, str | int | float | bool):
                raise InvalidRequest(
                    f"filters.{name} must be a string, a number, true, false or a list of these",
                    param=f"filters.{name}",
                )


def _comparable(value: str | int | float | bool) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)
