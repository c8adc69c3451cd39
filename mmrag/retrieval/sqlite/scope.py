"""Which documents a request may see: its tenant's that pass its filters. The one place where this is decided."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmrag.retrieval.filters import check_filters, comparable
from mmrag.retrieval.store import MAX_FIELDS
from mmrag.types import Filters

_ONE_FILTER = """
SELECT document FROM metadata
WHERE tenant = ? AND field = ? AND value IN (SELECT value FROM json_each(?))"""


# Each field is found by a step in the index, however many documents have it.
_NEXT_FIELD = "SELECT MIN(field) FROM metadata WHERE tenant = ?1 AND field > "
_FIELDS = f"""
WITH RECURSIVE found(field) AS (
    {_NEXT_FIELD} '' UNION ALL SELECT ({_NEXT_FIELD} found.field) FROM found WHERE found.field IS NOT NULL)
SELECT field FROM found WHERE field IS NOT NULL LIMIT ?2"""


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenant's number, and a query for the numbers of the documents that pass the filters.

    Attributes:
        sql: "" where there are no filters: then all of the tenant's documents.
        documents: int64 [n], what `sql` selects; None where there are no filters.
    """

    tenant: int
    sql: str = ""
    parameters: tuple = ()
    documents: np.ndarray | None = None

    def restrict(self, column: str) -> str:
        """A condition for a WHERE clause, to be used with `parameters`."""
        # The plus keeps SQLite from driving the search by the filter instead of by the words.
        return f"AND +{column} IN ({self.sql})" if self.sql else ""


def scope_of(connection: sqlite3.Connection, tenant: int, filters: Filters) -> Scope:
    """Raise InvalidRequest where a filter cannot be."""
    check_filters(filters)
    if not filters:
        return Scope(tenant)
    sql = " INTERSECT ".join([_ONE_FILTER] * len(filters))
    parameters = tuple(
        parameter for name, value in filters.items() for parameter in (tenant, name, json.dumps(comparable(value)))
    )
    documents = np.array([number for (number,) in connection.execute(sql, parameters)], dtype=np.int64)
    return Scope(tenant, sql, parameters, documents)


def metadata_fields(connection: sqlite3.Connection, tenant: int, wanted: Iterable[str]) -> set[str]:
    """The first `MAX_FIELDS` fields of the tenant's documents by name, and those of `wanted` that one of them has."""
    fields = {field for (field,) in connection.execute(_FIELDS, (tenant, MAX_FIELDS))}
    names = json.dumps(sorted(set(wanted) - fields))
    exists = "EXISTS (SELECT 1 FROM metadata WHERE tenant = ? AND field = name.value)"
    asked = connection.execute(f"SELECT value FROM json_each(?) AS name WHERE {exists}", (names, tenant))
    return fields | {field for (field,) in asked}
