"""How many of the ten nearest each kind of vector index finds, how large it is, and how long it takes."""

import statistics
import time

import numpy as np

from loadtests.bench.retrieval_data import TENANT, Glosses
from loadtests.bench.rows import Row
from mmrag.config import ElasticsearchConfig
from mmrag.retrieval.elasticsearch import ElasticsearchStore
from mmrag.retrieval.elasticsearch.connection import Connection
from mmrag.types import SearchRequest

MUST = {"int8_hnsw": 0.95, "bbq_hnsw": 0.90, "int4_hnsw": None}
K = 10
KEPT = "int8_hnsw"
"""The index that is left for the search part, which needs it, too."""


async def rows(url: str, glosses: Glosses) -> list[Row]:
    """A row of recall for each kind, and what it costs."""
    found = []
    for kind, must in MUST.items():
        config = ElasticsearchConfig(
            urls=[url], index=kind, vector_index=kind, num_replicas=0, timeout_s=60, write_timeout_s=600,
            images_path="/nonexistent",
        )  # fmt: skip
        store, connection = ElasticsearchStore(config), Connection(config)
        await store.load(TENANT, glosses.documents())
        await connection.call("POST", f"/{config.index}/_forcemerge", None, {"max_num_segments": 1}, 1_800)
        recall, latency_ms = await _recall(store, glosses)
        stats = await connection.call("GET", f"/{config.index}/_stats/store")
        size_mb = stats["_all"]["primaries"]["store"]["size_in_bytes"] / 1e6
        found += [
            Row(f"{kind}: recall@{K} of {glosses.count:,} against exact kNN", recall, None, "", must),
            Row(f"{kind}: median latency, one caller", latency_ms, None, "ms"),
            Row(f"{kind}: index", size_mb, None, "MB"),
        ]
        if kind != KEPT:
            await connection.call("DELETE", f"/{config.index}-v1", None, None, 60)
        await store.close()
        await connection.close()
    return found


async def _recall(store: ElasticsearchStore, glosses: Glosses) -> tuple[float, float]:
    known = np.asarray(glosses.vectors[: glosses.count], np.float16).astype(np.float32)
    hits, elapsed_s = [], []
    for _, vector in glosses.queries():
        exact = set(np.argpartition(known @ vector, -K)[-K:].tolist())
        started_s = time.perf_counter()
        [found] = await store.candidates([SearchRequest(text_embedding=vector, tenant=TENANT)], K)
        elapsed_s.append(time.perf_counter() - started_s)
        hits.append(sum(int(key[0].removeprefix("gloss-")) in exact for key, _ in found["text_text"]) / K)
    return statistics.mean(hits), 1_000 * statistics.median(elapsed_s)
