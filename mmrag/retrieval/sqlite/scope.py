"""Which documents a request may see: its tenant's that pass its filters. The one place where this is decided."""

import json
import sqlite3
from dataclasses import dataclass

import numpy as np

from mmrag.retrieval.filters import check_filters, comparable
from mmrag.types import Filters

_ONE_FILTER = """
SELECT document FROM metadata
WHERE tenant = ? AND field = ? AND value IN (SELECT value FROM json_each(?))"""


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
