"""The branches of a search: what each asks Elasticsearch, and what its answer means.

Scores mean what they mean in the embedded store: cosines, BM25 over title, labels and text as one field (the words of a
title count fourfold), and for labels the number of words divided by the number of documents that have the label.
What other tenants wrote is never found, but counts among the documents that tell BM25 how rare a word is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from mmrag.config import ElasticsearchConfig
from mmrag.retrieval.elasticsearch import mapping
from mmrag.retrieval.elasticsearch.connection import as_json
from mmrag.retrieval.elasticsearch.scope import scope
from mmrag.retrieval.store import Scored
from mmrag.retrieval.words import fold, label_candidates, normalise_label, search_terms
from mmrag.types import SearchRequest

MAX_TERMS = 256
MAX_LABEL_CANDIDATES = 512
"""Of a longer question only so much is looked for: Elasticsearch limits the clauses of a query."""

FOUND = ["document", "position", "content_hash"]
"""What is told of each hit."""

RESPONSE = ",".join(
    f"responses.{part}"
    for part in ("hits.hits._score", "hits.hits.fields", "aggregations.holders.buckets", "timed_out", "_shards.failed",
                 "_shards.total", "status", "error.type", "error.reason", "error.root_cause")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Branch:
    """One search of a request."""

    name: str
    body: dict[str, Any]


def branches_of(
    request: SearchRequest, config: ElasticsearchConfig, has_vectors: bool, count: int, timeout_ms: int
) -> list[Branch]:
    """The searches that `request` asks for, of `count` candidates each; all of them within the request's scope."""
    found = []
    if request.text and (terms := search_terms(request.text)[:MAX_TERMS]):
        found.append(Branch("bm25", _bm25(request, terms, count)))
    if wanted := _wanted_labels(request):
        found.append(Branch("label", _labels(request, wanted, count)))
    for source, embedding in (("text", request.text_embedding), ("image", request.image_embedding)):
        if embedding is not None and has_vectors:
            vector = as_json(np.ascontiguousarray(embedding, dtype=np.float32))
            for target in ("text", "image"):
                nearest = _nearest(request, f"{target}_vector", vector, config, count)
                found.append(Branch(f"{source}_{target}", nearest))
    for branch in found:
        branch.body.update(
            {"_source": False, "stored_fields": "_none_", "track_total_hits": False, "timeout": f"{timeout_ms}ms"}
        )
    return found


def scored(branch: Branch, response: dict[str, Any], count: int) -> Scored:
    """The candidates in a response, best first."""
    hits = response.get("hits", {}).get("hits", [])
    if branch.name == "label":
        return _scored_labels(hits, response, count)
    if branch.name.endswith("_image"):
        return [(_document(hit), 2 * hit["_score"] - 1) for hit in hits]
    factor, offset = (1, 0) if branch.name == "bm25" else (2, -1)
    found = ((hit["fields"], hit["_score"]) for hit in hits)
    return [((at["document"][0], at["position"][0]), factor * score + offset) for at, score in found]


def content_hashes(response: dict[str, Any]) -> dict[str, str]:
    """The content hash of each document whose first record was found."""
    fields = (hit["fields"] for hit in response.get("hits", {}).get("hits", []))
    # Another record may have been left behind by another content.
    return {at["document"][0]: at["content_hash"][0] for at in fields if at["position"][0] == 0}


def trouble(response: dict[str, Any]) -> str | None:
    """What is wrong with one item of an _msearch, which says 200 whatever its items say."""
    if error := response.get("error"):
        causes = error.get("root_cause") or [error]
        return f"{response.get('status')} {causes[0].get('type')}: {causes[0].get('reason')}"
    shards = response.get("_shards", {})
    if shards.get("failed"):
        return f"{shards['failed']} of {shards.get('total')} shards failed"
    return "it took too long" if response.get("timed_out") else None


def sendable(text: str) -> str:
    """The text without lone surrogates, which no JSON can carry and no document contains."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _bm25(request: SearchRequest, terms: list[str], count: int) -> dict[str, Any]:
    words = {"query": sendable(fold(" ".join(terms))), "fields": mapping.WORD_FIELDS}
    return {
        "query": {"bool": {"must": {"combined_fields": words}, "filter": scope(request.tenant, request.filters)}},
        "size": count,
        "docvalue_fields": FOUND,
    }


def _wanted_labels(request: SearchRequest) -> list[str]:
    labels = [normalise_label(sendable(label)) for label in request.labels]
    wanted = label_candidates(sendable(request.text or "")) + labels
    return [label for label in dict.fromkeys(wanted) if label][:MAX_LABEL_CANDIDATES]


def _labels(request: SearchRequest, wanted: list[str], count: int) -> dict[str, Any]:
    # How many documents of the tenant have a label does not depend on the caller's filters: those come after.
    named = [{"term": {"label": {"value": label, "boost": _num_words(label)}}} for label in wanted]
    return {
        "query": {"bool": {"should": named, "minimum_should_match": 1, "filter": scope(request.tenant)}},
        "post_filter": {"bool": {"filter": scope(request.tenant, request.filters)}},
        "aggs": {"holders": {"terms": {"field": "label", "include": wanted, "size": len(wanted)}}},
        "size": count + 1,
        "docvalue_fields": [*FOUND, "label"],
    }


def _scored_labels(hits: list[dict], response: dict[str, Any], count: int) -> Scored:
    buckets = response.get("aggregations", {}).get("holders", {}).get("buckets", [])
    weights = {bucket["key"]: _num_words(bucket["key"]) / bucket["doc_count"] for bucket in buckets}
    found: Scored = [(_document(hit), sum(weights.get(label, 0.0) for label in hit["fields"]["label"])) for hit in hits]
    found.sort(key=lambda pair: -pair[1])
    # As many that are equally good are no candidates: the label does not tell them apart.
    cut = found[-1][1] if len(found) > count else None
    return [(key, score) for key, score in found if score != cut]


def _nearest(
    request: SearchRequest, field: str, vector: orjson.Fragment, config: ElasticsearchConfig, count: int
) -> dict[str, Any]:
    knn: dict[str, Any] = {
        "field": field,
        "query_vector": vector,
        "k": count,
        "num_candidates": max(count, config.num_candidates),
        "filter": scope(request.tenant, request.filters),
    }
    if config.vector_index not in mapping.EXACT:
        knn["rescore_vector"] = {"oversample": config.oversample}
    return {"knn": knn, "size": count, "docvalue_fields": FOUND}


def _document(hit: dict) -> tuple[str, int | None]:
    return hit["fields"]["document"][0], None


def _num_words(label: str) -> int:
    return label.count(" ") + 1
