"""Documents with ready embeddings into the index: ours against elasticsearch-py's parallel_bulk fed with lists.

Theirs writes the word, the gloss, the tenant and the vector, with the client's own serializer and two threads. Ours
writes the same and what else our index holds, looks first which documents are new, and is run again after a kill. Each
side's time ends when the merges that it caused are done: who leaves many small segments has not finished.
"""

import asyncio
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator

import psutil
from elasticsearch import Elasticsearch
from elasticsearch.helpers import parallel_bulk

from loadtests.bench.retrieval_data import TENANT, Glosses
from loadtests.bench.rows import Row
from mmrag.config import ElasticsearchConfig
from mmrag.retrieval.elasticsearch import ElasticsearchStore, mapping
from mmrag.types import IngestReport

MUST = {"int8_hnsw": 1.25, "int8_flat": 2.5}
MAX_MEMORY_MB = 300
NUM_TURNS = 4
CHUNK_DOCUMENTS = 500


async def rows(url: str, glosses: Glosses) -> list[Row]:
    """Documents a second of both sides, taking turns, and the memory that ours needs."""
    found, memory_mb = [], 0.0
    for kind, must in MUST.items():
        ours_s, theirs_s, grown_mb = await _both(url, glosses, kind)
        memory_mb = max(memory_mb, grown_mb)
        speeds = glosses.count / ours_s, glosses.count / theirs_s
        found.append(Row(f"ingest of {glosses.count:,} documents into {kind}", *speeds, "/s", must))
    found.append(Row("ingest: memory over the base", memory_mb, None, "MB", MAX_MEMORY_MB, is_at_most=True))
    return [*found, await _killed(url, glosses)]


async def _both(url: str, glosses: Glosses, kind: str) -> tuple[float, float, float]:
    config = _config(url, f"ours_{kind}", kind)
    store, client = ElasticsearchStore(config), Elasticsearch(url, request_timeout=600)
    _make_theirs(client, config)
    elapsed_s, grown_mb = [0.0, 0.0], 0.0
    edges = [glosses.count * i // NUM_TURNS for i in range(NUM_TURNS + 1)]
    for turn in range(NUM_TURNS):
        start, end = edges[turn : turn + 2]
        for side in (0, 1) if turn % 2 else (1, 0):
            started_s = time.perf_counter()
            if side == 0:
                grown_mb = max(grown_mb, await _ours(store, glosses, start, end))
            else:
                await asyncio.to_thread(_theirs, client, glosses, start, end)
            await asyncio.to_thread(_wait_for_merges, client)
            elapsed_s[side] += time.perf_counter() - started_s
    count = client.count(index="theirs")["count"]
    if (count, await store.count(TENANT)) != (glosses.count, glosses.count):
        raise RuntimeError(f"{count:,} documents were written, not {glosses.count:,}")
    client.indices.delete(index=["theirs", f"ours_{kind}-v1"])
    client.close()
    await store.close()
    return elapsed_s[0], elapsed_s[1], grown_mb


async def _ours(store: ElasticsearchStore, glosses: Glosses, start: int, end: int) -> float:
    process = psutil.Process()
    # Pages of the mapped embeddings are the kernel's to keep or drop.
    base, most = _private_mb(process), [0.0]

    def note(report: IngestReport) -> None:
        most[0] = max(most[0], _private_mb(process) - base)

    await store.load(TENANT, glosses.documents(start, end), note)
    return most[0]


def _private_mb(process: psutil.Process) -> float:
    memory = process.memory_info()
    return (memory.rss - memory.shared) / 1e6


def _theirs(client: Elasticsearch, glosses: Glosses, start: int, end: int) -> None:
    def actions() -> Iterator[dict]:
        for i in range(start, end):
            word, gloss = glosses.texts[i]
            words = {"title": word, "text": gloss}
            source = {"tenant": TENANT, "words": words, "text_vector": glosses.vectors[i].tolist()}
            yield {"_index": "theirs", "_id": str(i), "_source": source}

    deque(parallel_bulk(client, actions(), thread_count=2, chunk_size=CHUNK_DOCUMENTS), maxlen=0)
    client.indices.refresh(index="theirs")


def _wait_for_merges(client: Elasticsearch) -> None:
    while client.indices.stats(metric="merge")["_all"]["total"]["merges"]["current"]:
        time.sleep(0.05)


def _make_theirs(client: Elasticsearch, config: ElasticsearchConfig) -> None:
    body = mapping.new_index(config, None, 384)
    del body["mappings"]["_source"], body["mappings"]["_meta"]
    client.indices.delete(index="theirs", ignore_unavailable=True)
    client.indices.create(index="theirs", **body)


def _config(url: str, index: str, kind: str) -> ElasticsearchConfig:
    return ElasticsearchConfig(
        urls=[url], index=index, vector_index=kind, num_replicas=0, timeout_s=60, write_timeout_s=600,
        images_path="/nonexistent",
    )  # fmt: skip


async def _killed(url: str, glosses: Glosses) -> Row:
    spawn = multiprocessing.get_context("spawn")
    num_loaded, config = spawn.Value("i", 0), _config(url, "killed", "int8_flat")
    loader = spawn.Process(target=_load, args=(config, glosses.count, num_loaded))
    loader.start()
    while loader.is_alive() and num_loaded.value < glosses.count // 3:
        await asyncio.sleep(0.02)
    os.kill(loader.pid, signal.SIGKILL)
    loader.join()
    store, client = ElasticsearchStore(config), Elasticsearch(url)
    report = await store.load(TENANT, glosses.documents())
    num_records = client.count(index="killed")["count"]
    if glosses.count > 5_000 and not 0 < report.num_unchanged < glosses.count:  # fewer are all on their way at once
        raise RuntimeError(f"it was not killed in the middle: {report.num_unchanged:,} had been written")
    num_wrong = abs(glosses.count - await store.count(TENANT)) + abs(glosses.count - num_records)
    client.indices.delete(index="killed-v1")
    client.close()
    await store.close()
    return Row("killed ingest, started again: documents lost or twice", num_wrong, None, "", 0, is_at_most=True)


def _load(config: ElasticsearchConfig, count: int, num_loaded) -> None:
    def note(report: IngestReport) -> None:
        num_loaded.value = report.num_upserted

    asyncio.run(ElasticsearchStore(config).load(TENANT, Glosses(count).documents(), note))
