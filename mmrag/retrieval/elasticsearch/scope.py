"""Which records a request may see: its tenant's that pass its filters. The one place where this is decided."""

import hashlib
from typing import Any

from mmrag.retrieval.elasticsearch.mapping import MAX_TERM_BYTES
from mmrag.retrieval.filters import check_filters, comparable
from mmrag.types import Filters, MetadataValue


def scope(tenant: str, filters: Filters = {}) -> list[dict[str, Any]]:  # noqa: B006
    """Conditions for every query and every `knn.filter`; all must hold.

    Raises:
        InvalidRequest: a filter that cannot be.
    """
    check_filters(filters)
    wanted = [{"terms": {f"metadata.{field_key(name)}": field_values(value)}} for name, value in filters.items()]
    return [{"term": {"tenant": tenant}}, *wanted]


def field_key(name: str) -> str:
    """A metadata field's name as a key of the index: any name is one, and no two are the same."""
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if plain else f"~{_digest(name)}"


def field_values(value: MetadataValue) -> list[str]:
    """The elements of a metadata value as they are compared."""
    return [one if len(one) <= MAX_TERM_BYTES else f"~{_digest(one)}" for one in comparable(value)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
