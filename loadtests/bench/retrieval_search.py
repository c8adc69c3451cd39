"""Hybrid search through our retriever, against the same _msearch sent raw with a prepared body; 16 callers each.

Raw: the bytes of the request are ready, the bytes of the response are read and not looked at. Ours: terms, labels,
scope, JSON both ways, fusion, and the passages' texts and embeddings. These take a second request where they have not
been found lately; as the questions come round, most have been. Reported beside it: all of them read anew each time.
"""

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable

import aiohttp

from loadtests.bench.retrieval_data import TENANT, Glosses
from loadtests.bench.retrieval_recall import KEPT
from loadtests.bench.rows import Row
from mmrag.batching import Batcher
from mmrag.config import ElasticsearchConfig, RetrieverConfig
from mmrag.retrieval import Retriever
from mmrag.retrieval.elasticsearch import ElasticsearchStore, branches
from mmrag.retrieval.elasticsearch.connection import Connection, as_lines
from mmrag.retrieval.elasticsearch.record_cache import RecordCache
from mmrag.types import Evidence, SearchRequest

NUM_CALLERS = 16
MIN_THROUGHPUT, MAX_EXTRA_MS = 0.85, 2.0


async def rows(url: str, glosses: Glosses, seconds: float, num_rounds: int) -> list[Row]:
    """Throughput and median latency of both, taking turns of `seconds`."""
    settings = ElasticsearchConfig(
        urls=[url], index=KEPT, num_replicas=0, timeout_s=60, write_timeout_s=600, images_path="/nonexistent"
    )
    config = RetrieverConfig(kind="elasticsearch", elasticsearch=settings)
    store, connection = ElasticsearchStore(settings), Connection(settings)
    await store.load(TENANT, glosses.documents())
    await connection.call("POST", f"/{KEPT}/_forcemerge", None, {"max_num_segments": 1}, 1_800)
    requests = [SearchRequest(text=text, text_embedding=vector, tenant=TENANT) for text, vector in glosses.queries()]
    forgetful = ElasticsearchStore(settings)
    forgetful.searcher.cache = RecordCache(max_bytes=0)
    ours, anew = (_batcher(Retriever(one, config)) for one in (store, forgetful))
    async with _session(url) as session:
        raw = _raw(session, [_body(request, settings) for request in requests])
        # As Ray Serve does in each replica when it is ready: what was loaded is not looked through for garbage again.
        gc.collect()
        gc.freeze()
        sides = [lambda i, side=side: side.submit(requests[i % len(requests)]) for side in (ours, anew)]
        figures = await _in_turns([*sides, raw], seconds, num_rounds)
    await connection.call("DELETE", f"/{KEPT}-v1", None, None, 60)
    for one in (store, forgetful, connection):
        await one.close()
    (ours_rate, ours_ms), (anew_rate, _), (raw_rate, raw_ms) = figures
    return [
        Row(f"hybrid search, {NUM_CALLERS} callers: throughput", ours_rate, raw_rate, "/s", MIN_THROUGHPUT),
        Row(f"hybrid search, {NUM_CALLERS} callers: p50", ours_ms, raw_ms, "ms"),
        Row("hybrid search: what ours adds to the p50", ours_ms - raw_ms, None, "ms", MAX_EXTRA_MS, is_at_most=True),
        Row("reported: the same, every passage read anew: throughput", anew_rate, raw_rate, "/s"),
    ]


def _batcher(retriever: Retriever) -> Batcher[SearchRequest, Evidence]:
    # As in front of the retriever's deployment: what waits goes together.
    return Batcher(retriever.search, max_batch_cost=32, max_queue_cost=512, max_concurrent_batches=3, name="retriever")


def _body(request: SearchRequest, config: ElasticsearchConfig) -> bytes:
    asked = branches.branches_of(request, config, True, RetrieverConfig().candidates_per_branch, 60_000)
    headers = [{"search_type": "dfs_query_then_fetch"} if branch.name == "bm25" else {} for branch in asked]
    return as_lines(*itertools.chain(*zip(headers, (branch.body for branch in asked), strict=True)))


def _session(url: str) -> aiohttp.ClientSession:
    # Like curl, and like our client, it does not ask for a compressed response: that costs the server time.
    connector = aiohttp.TCPConnector(limit=NUM_CALLERS)
    return aiohttp.ClientSession(url, connector=connector, skip_auto_headers=["accept-encoding"])


def _raw(session: aiohttp.ClientSession, bodies: list[bytes]) -> Callable[[int], Awaitable]:
    async def send(i: int) -> None:
        path, headers = f"/{KEPT}/_msearch?filter_path={branches.RESPONSE}", {"content-type": "application/x-ndjson"}
        async with session.post(path, data=bodies[i % len(bodies)], headers=headers) as response:
            if response.status != 200 or not await response.read():
                raise RuntimeError(f"_msearch says {response.status}")

    return send


async def _in_turns(
    sides: list[Callable[[int], Awaitable]], seconds: float, num_rounds: int
) -> list[tuple[float, float]]:
    rates: list[list[float]] = [[] for _ in sides]
    elapsed_s: list[list[float]] = [[] for _ in sides]
    for number in range(num_rounds + 1):
        order = range(len(sides))
        for side in order if number % 2 else reversed(order):
            rate, durations = await _load(sides[side], seconds)
            if number:  # the first round warms caches and the JIT
                rates[side].append(rate)
                elapsed_s[side] += durations
    return [
        (statistics.median(rate), 1_000 * statistics.median(all_s))
        for rate, all_s in zip(rates, elapsed_s, strict=True)
    ]


async def _load(call: Callable[[int], Awaitable], seconds: float) -> tuple[float, list[float]]:
    numbers, elapsed_s = itertools.count(), []
    started_s = time.perf_counter()

    async def caller() -> None:
        while time.perf_counter() - started_s < seconds:
            began_s = time.perf_counter()
            await call(next(numbers))
            elapsed_s.append(time.perf_counter() - began_s)

    await asyncio.gather(*(caller() for _ in range(NUM_CALLERS)))
    return len(elapsed_s) / (time.perf_counter() - started_s), elapsed_s
