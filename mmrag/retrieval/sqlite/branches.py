"""The branches of one search: words, labels, and the four kinds of nearest neighbours."""

import json
import sqlite3

import numpy as np

from mmrag.retrieval.sqlite.matrices import TenantMatrices
from mmrag.retrieval.sqlite.scope import Scope
from mmrag.retrieval.store import Scored
from mmrag.retrieval.words import WEIGHTS, label_candidates, normalise_label, search_terms
from mmrag.types import SearchRequest


def bm25(connection: sqlite3.Connection, scope: Scope, text: str, count: int) -> Scored:
    """Passages by BM25 over title, labels and text (k1 = 1.2, b = 0.75, idf floored at 1e-6; see FTS5's manual)."""
    terms = " OR ".join('"' + term + '"' for term in search_terms(text))
    if not terms:
        return []
    words, weights = f"words_{scope.tenant}", "{title}, {labels}, {text}".format(**WEIGHTS)
    document = f"(SELECT document FROM passages WHERE num = {words}.rowid)"
    rows = connection.execute(
        f"""
        SELECT d.id, p.position, -found.score
        FROM (SELECT rowid AS passage, bm25({words}, {weights}) AS score
              FROM {words} WHERE {words} MATCH ? {scope.restrict(document)}
              ORDER BY score, rowid LIMIT ?) found
        JOIN passages p ON p.num = found.passage JOIN documents d ON d.num = p.document
        ORDER BY found.score, p.num""",
        (terms, *scope.parameters, count),
    )
    return [((document, position), score) for document, position, score in rows]


def labels(connection: sqlite3.Connection, scope: Scope, request: SearchRequest, count: int) -> Scored:
    """Documents whose title or label the text mentions or the request names; long and rare ones say more.

    So a question about South Sudan finds it before Sudan, and one that only says "country" finds nothing: where
    equally good documents are more than `count`, none of them is a candidate.
    """
    wanted = label_candidates(request.text or "") + [normalise_label(label) for label in request.labels]
    if not wanted:
        return []
    rows = connection.execute(
        f"""
        WITH found AS (SELECT label, num_words, document FROM labels
                       WHERE tenant = ? AND label IN (SELECT value FROM json_each(?))),
             frequency AS (SELECT label, COUNT(*) AS holders FROM found GROUP BY label)
        SELECT d.id, SUM(1.0 * num_words / holders) AS score
        FROM found JOIN frequency USING (label) JOIN documents d ON d.num = document
        WHERE TRUE {scope.restrict("document")}
        GROUP BY document ORDER BY score DESC, document LIMIT ?""",
        (scope.tenant, json.dumps(wanted), *scope.parameters, count + 1),
    ).fetchall()
    cut = rows[-1][1] if len(rows) > count else None
    return [((document, None), score) for document, score in rows if score != cut]


def neighbours(
    matrices: TenantMatrices, requests: list[tuple[SearchRequest, Scope]], count: int
) -> list[dict[str, Scored]]:
    """The kNN branches of one tenant's requests: one matrix product with the passages, one with the pictures."""
    found: list[dict[str, Scored]] = [{} for _ in requests]
    asked = [
        (by_branch, source, embedding, scope.documents)
        for by_branch, (request, scope) in zip(found, requests, strict=True)
        for source, embedding in (("text", request.text_embedding), ("image", request.image_embedding))
        if embedding is not None
    ]
    if asked:
        queries = np.stack([embedding for _, _, embedding, _ in asked]).astype(np.float32)
        allowed = [documents for _, _, _, documents in asked]
        for target, table in (("text", matrices.texts), ("image", matrices.images)):
            for (by_branch, source, _, _), nearest in zip(asked, table.nearest(queries, allowed, count), strict=True):
                by_branch[f"{source}_{target}"] = nearest
    return found
