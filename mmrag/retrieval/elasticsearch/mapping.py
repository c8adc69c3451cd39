"""What an index looks like: explicit mapping, BM25, vectors of a stated kind.

Record n of a document holds its passage n and its picture n, so that most documents are one record; record 0 also
holds what the document is as a whole. What is only read, never searched, lies in `stored`, which is not indexed.
"""

from typing import Any

from mmrag.config import ElasticsearchConfig
from mmrag.retrieval.words import WEIGHTS

SCHEMA_VERSION = 1
VECTORS = ("text_vector", "image_vector")
WORD_FIELDS = [f"words.{name}^{weight}" for name, weight in WEIGHTS.items()]
EXACT = ("flat", "hnsw")
"""Kinds of vector index that keep full precision: there is nothing to rescore."""

MAX_TERM_BYTES = 8_000
"""Lucene takes no term of more than 32,766 bytes."""


def new_index(config: ElasticsearchConfig, fingerprint: str | None, dimension: int | None) -> dict[str, Any]:
    """Settings and mapping of a new version."""
    return {
        "settings": {
            "number_of_shards": config.num_shards,
            "number_of_replicas": config.num_replicas,
            "refresh_interval": config.refresh_interval,
        },
        "mappings": {
            "dynamic": "strict",
            "_meta": meta(config, fingerprint),
            # Vectors and folded words are there to be searched. What they were made of is in `stored`.
            "_source": {"excludes": [*VECTORS, "words"]},
            "properties": _fields(config) | (vector_fields(config, dimension) if dimension else {}),
        },
    }


def meta(config: ElasticsearchConfig, fingerprint: str | None) -> dict[str, Any]:
    """What tells whether a version is as it would be made now."""
    return {
        "schema": SCHEMA_VERSION, "fingerprint": fingerprint, "vector_index": config.vector_index,
        "analyzer": config.analyzer, "num_shards": config.num_shards,
    }  # fmt: skip


def vector_fields(config: ElasticsearchConfig, dimension: int) -> dict[str, Any]:
    """The fields for embeddings: added as soon as their dimension is known."""
    field = {
        "type": "dense_vector", "dims": dimension, "index": True, "similarity": "cosine",
        "index_options": {"type": config.vector_index},
    }  # fmt: skip
    return dict.fromkeys(VECTORS, field)


def _fields(config: ElasticsearchConfig) -> dict[str, Any]:
    words = {"type": "text", "analyzer": config.analyzer}
    unsearched = {"type": "keyword", "index": False}
    return {
        "tenant": {"type": "keyword"},
        "document": {"type": "keyword"},
        "position": {"type": "integer"},
        "metadata": {"type": "flattened"},
        "words": {"properties": {"title": words, "labels": words, "text": words}},
        "content_hash": unsearched,
        # Only in record 0:
        "label": {"type": "keyword", "ignore_above": MAX_TERM_BYTES},
        "image_ids": {"type": "keyword"},
        "num_records": {"type": "integer"},
        "copied_from": unsearched,
        "stored": {"type": "object", "enabled": False},
    }
