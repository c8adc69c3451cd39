"""Elasticsearch and Redis stopped, or silent, under load: what callers notice, and how soon all is well again.

Callers go through the whole pipeline but for the models: a search whose evidence is missing is answered, and says so.
Each asks at most every `PACE_S`: asking anew at once, those who are answered by an open breaker, which takes no time,
would outnumber all others, and no percentile would show how long the others waited.
"""

import asyncio
import itertools
import signal
import sys
import time
from dataclasses import dataclass, field

import numpy as np
from elasticsearch import ApiError

from loadtests.bench.elasticsearch_server import Servers
from loadtests.bench.redis_server import RedisServer
from loadtests.bench.retrieval_data import TENANT, Glosses
from loadtests.bench.rows import Row
from mmrag.cache import open_cache
from mmrag.config import AppConfig, CacheConfig, ElasticsearchConfig
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.errors import Unavailable
from mmrag.knowledge.passages import Splitter
from mmrag.pipeline import Pipeline
from mmrag.retrieval import Retriever
from mmrag.retrieval.elasticsearch import ElasticsearchStore
from mmrag.retrieval.elasticsearch.connection import Connection
from mmrag.types import Query

NUM_CALLERS = 16
PACE_S = 0.1
TIMEOUT_S = 2.0
MAX_UNTIL_WHOLE_S = 15.0
MAX_START_S = 240.0
GRACE_S = 1.0
"""What the rest of a request may take, on a machine that is busy restarting a server."""


class _ReadyEmbeddings:
    """A text encoder that knows the queries' embeddings already."""

    fingerprint = "ready"

    def __init__(self, glosses: Glosses):
        self._of_text = dict(glosses.queries())

    async def embed(self, texts: list[str]) -> np.ndarray:
        return np.stack([self._of_text[text] for text in texts])


class _Knowledge:
    """The part of a pipeline's knowledge that a search needs."""

    def __init__(self, store: ElasticsearchStore, config: AppConfig):
        self.search = Retriever(store, config.retriever).search
        self.upsert, self.content_hashes = store.upsert, store.content_hashes


@dataclass
class Seen:
    """What the callers saw: how long each request took, and how it went."""

    elapsed_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    num_incomplete: int = 0
    last_incomplete_at: float = 0.0

    def rows(self, name: str) -> list[Row]:
        """The must of the slowest holds for every percentile below it."""
        p99_s, slowest_s = np.quantile(self.elapsed_s, (0.99, 1.0)).tolist()
        for failure in sorted(set(self.failures))[:5]:
            print(f"{name}: {failure}", file=sys.stderr)
        return [
            Row(f"{name}: failed of {len(self.elapsed_s):,} requests", len(self.failures), None, "", 0, True),
            Row(f"{name}: p99", p99_s, None, "s"),
            Row(f"{name}: slowest", slowest_s, None, "s", TIMEOUT_S + GRACE_S, True),
            Row(f"{name}: answered without all evidence", self.num_incomplete / len(self.elapsed_s), None),
        ]


class Load:
    """Callers that never stop asking while it is open."""

    def __init__(self, urls: list[str], glosses: Glosses, index: str, redis_url: str, **settings: int):
        elasticsearch = ElasticsearchConfig(
            urls=urls, index=index, timeout_s=TIMEOUT_S, write_timeout_s=120, images_path="/nonexistent", **settings
        )
        self.config = AppConfig.model_validate(
            {"retriever": {"kind": "elasticsearch", "elasticsearch": elasticsearch.model_dump()}}
        )
        self.store = ElasticsearchStore(elasticsearch)
        patient = elasticsearch.model_copy(update={"timeout_s": 120.0})
        self.loader, self.connection = ElasticsearchStore(patient), Connection(patient)
        self.seen = Seen()
        self._queries = list(glosses.queries())
        embeddings = _ReadyEmbeddings(glosses)
        self._cache = open_cache(CacheConfig(max_entries=0, redis_url=redis_url))
        self._pipeline = Pipeline(
            text_encoder=embeddings,
            image_encoder=embeddings,
            retriever=_Knowledge(self.store, self.config),
            decoder=None,
            splitter=Splitter(load_tokenizer(self.config.text_encoder)),
            cache=self._cache,
        )

    async def __aenter__(self) -> "Load":
        numbers = itertools.count()
        self._is_over = False
        self._callers = [asyncio.create_task(self._call(numbers)) for _ in range(NUM_CALLERS)]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._is_over = True
        _, hanging = await asyncio.wait(self._callers, timeout=2 * (TIMEOUT_S + GRACE_S))
        for caller in hanging:
            caller.cancel()
            self.seen.failures.append("no answer at all")
        for part in (self.store, self.loader, self.connection, self._cache.second):
            await part.close()

    async def until_whole(self) -> float:
        """Seconds until answers have all their evidence, and embeddings come from Redis, for two seconds on end."""
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < 2 * MAX_UNTIL_WHOLE_S:
            whole_s, num_hits = time.perf_counter(), self._cache.counts()["redis_hits"]
            await asyncio.sleep(2)
            if self.seen.last_incomplete_at < whole_s and self._cache.counts()["redis_hits"] > num_hits:
                return whole_s - started_s
        return float("inf")

    async def until_green(self, num_nodes: int) -> None:
        """Until so many nodes are there, and every copy of the index on one of them."""
        query = {"wait_for_nodes": str(num_nodes), "wait_for_status": "green", "timeout": "1s"}
        give_up_at = time.monotonic() + MAX_START_S
        while time.monotonic() < give_up_at:
            try:
                if (await self.connection.call("GET", "/_cluster/health", None, query, 5))["status"] == "green":
                    return
            except (ApiError, Unavailable):  # 408 as long as it waits
                await asyncio.sleep(0.2)
        raise RuntimeError("Elasticsearch does not come back")

    async def _call(self, numbers: itertools.count) -> None:
        while not self._is_over:
            text, _ = self._queries[next(numbers) % len(self._queries)]
            started_s = time.perf_counter()
            try:
                answer = await self._pipeline.search(Query(text=text, tenant=TENANT))
                if answer.degraded or not answer.passages:
                    self.seen.num_incomplete += 1
                    self.seen.last_incomplete_at = time.perf_counter()
            except Exception as error:
                self.seen.failures.append(repr(error))
                self.seen.last_incomplete_at = time.perf_counter()
            elapsed_s = time.perf_counter() - started_s
            self.seen.elapsed_s.append(elapsed_s)
            await asyncio.sleep(max(0.0, PACE_S - elapsed_s))


async def rows(servers: Servers, redis: RedisServer, glosses: Glosses, seconds: float) -> list[Row]:
    """Each fault, for `seconds` after as many without; `servers` starts what ended."""
    found = []
    for name, fault in (
        ("Elasticsearch stopped", lambda load: _elasticsearch_stopped(servers, load)),
        ("Redis stopped", lambda load: _redis_stopped(redis, seconds)),
        ("both silent", lambda load: _both_silent(servers, redis, seconds)),
    ):
        load = Load(servers.urls, glosses, f"faults_{len(found)}", redis.url, num_replicas=0)
        await load.loader.load(TENANT, glosses.documents())
        async with load:
            await asyncio.sleep(seconds)
            await fault(load)
            whole_s = await load.until_whole()
        found += load.seen.rows(name)
        found.append(Row(f"{name}: whole again after", whole_s, None, "s", MAX_UNTIL_WHOLE_S, is_at_most=True))
    return found


async def _elasticsearch_stopped(servers: Servers, load: Load) -> None:
    servers.node(0).kill()
    await asyncio.sleep(1)
    await load.until_green(num_nodes=1)  # how long it takes to start is its own affair


async def _redis_stopped(redis: RedisServer, seconds: float) -> None:
    await asyncio.to_thread(redis.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(redis.start_again)


async def _both_silent(servers: Servers, redis: RedisServer, seconds: float) -> None:
    node = servers.node(0)
    node.send_signal(signal.SIGSTOP)
    try:
        with redis.silent():
            await asyncio.sleep(seconds)
    finally:
        node.send_signal(signal.SIGCONT)
