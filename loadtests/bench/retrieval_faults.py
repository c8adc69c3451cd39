"""Elasticsearch stopped, silent, or short of a node, under load: what callers notice, and what is lost.

Callers go through the whole pipeline but for the models: a search whose evidence is missing is answered, and says so.
"""

import asyncio
import itertools
import signal
import time
from dataclasses import dataclass, field

import numpy as np

from loadtests.bench.elasticsearch_server import Servers
from loadtests.bench.retrieval_data import TENANT, Glosses
from loadtests.bench.rows import Row
from mmrag.cache import EmbeddingCache
from mmrag.config import AppConfig, ElasticsearchConfig
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.errors import Unavailable
from mmrag.knowledge.passages import Splitter
from mmrag.pipeline import Pipeline
from mmrag.retrieval import Retriever
from mmrag.retrieval.elasticsearch import ElasticsearchStore
from mmrag.retrieval.elasticsearch.connection import Connection
from mmrag.types import Query

NUM_CALLERS = 16
TIMEOUT_S = 2.0
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
    """What the callers saw: when each began and ended, and how it went."""

    elapsed_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    num_degraded: int = 0
    last_degraded_at: float = 0.0

    def rows(self, name: str, is_complete: bool) -> list[Row]:
        p99_s = float(np.quantile(self.elapsed_s, 0.99)) if self.elapsed_s else float("inf")
        share = self.num_degraded / max(1, len(self.elapsed_s))
        return [
            Row(f"{name}: failed of {len(self.elapsed_s):,} requests", len(self.failures), None, "", 0, True),
            Row(f"{name}: p99", p99_s, None, "s", TIMEOUT_S + GRACE_S, True),
            Row(f"{name}: answered without all evidence", share, None, "", 0 if is_complete else None, True),
        ]


class Load:
    """Callers that never stop asking while it is open, each anew as soon as it has an answer."""

    def __init__(self, url_list: list[str], glosses: Glosses, index: str, **settings: int):
        elasticsearch = ElasticsearchConfig(
            urls=url_list, index=index, timeout_s=TIMEOUT_S, write_timeout_s=120, images_path="/nonexistent", **settings
        )
        self.config = AppConfig.model_validate(
            {"retriever": {"kind": "elasticsearch", "elasticsearch": elasticsearch.model_dump()}}
        )
        self.store = ElasticsearchStore(elasticsearch)
        self.connection = Connection(elasticsearch.model_copy(update={"timeout_s": 120.0}))
        self.seen = Seen()
        self._queries = list(glosses.queries())
        embeddings = _ReadyEmbeddings(glosses)
        self._pipeline = Pipeline(
            text_encoder=embeddings,
            image_encoder=embeddings,
            retriever=_Knowledge(self.store, self.config),
            decoder=None,
            splitter=Splitter(load_tokenizer(self.config.text_encoder)),
            cache=EmbeddingCache(1_000),
        )

    async def __aenter__(self) -> "Load":
        numbers = itertools.count()
        self._callers = [asyncio.create_task(self._call(numbers)) for _ in range(NUM_CALLERS)]
        return self

    async def __aexit__(self, *error: object) -> None:
        for caller in self._callers:
            caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)
        await self.store.close()
        await self.connection.close()

    async def until_whole(self, timeout_s: float) -> float:
        """Seconds until answers have all their evidence again, for two seconds without a break."""
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < timeout_s:
            await asyncio.sleep(0.1)
            if time.perf_counter() - max(self.seen.last_degraded_at, started_s) > 2:
                return max(0.0, self.seen.last_degraded_at - started_s)
        return float("inf")

    async def _call(self, numbers: itertools.count) -> None:
        while True:
            text, _ = self._queries[next(numbers) % len(self._queries)]
            started_s = time.perf_counter()
            try:
                answer = await self._pipeline.search(Query(text=text, tenant=TENANT))
                if answer.degraded:
                    self.seen.num_degraded += 1
                    self.seen.last_degraded_at = time.perf_counter()
            except Exception as error:
                self.seen.failures.append(repr(error))
            self.seen.elapsed_s.append(time.perf_counter() - started_s)
            await asyncio.sleep(0.005)  # a breaker that is open answers at once: leave time for others


async def rows(servers: Servers, glosses: Glosses, seconds: float) -> list[Row]:
    """One node that falls silent, and is stopped and started again; `servers` starts what ended."""
    found = []
    for name, fault in (("Elasticsearch silent", _silent), ("Elasticsearch stopped", _stopped)):
        load = Load(servers.urls, glosses, f"faults_{len(found)}", num_replicas=0)
        await load.store.load(TENANT, glosses.documents())
        async with load:
            await asyncio.sleep(seconds)
            await fault(servers, seconds)
            back_s = await load.until_whole(120)
        found += load.seen.rows(name, is_complete=False)
        found.append(Row(f"{name}: whole again after", back_s, None, "s", 120, is_at_most=True))
    return found


async def _silent(servers: Servers, seconds: float) -> None:
    node = servers.node(0)
    node.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(2 * seconds)
    finally:
        node.send_signal(signal.SIGCONT)


async def _stopped(servers: Servers, seconds: float) -> None:
    servers.node(0).kill()
    await asyncio.sleep(seconds)
    while True:  # until it is there again
        try:
            servers.node(0)
            return
        except ProcessLookupError:
            await asyncio.sleep(0.2)


async def node_rows(servers: Servers, glosses: Glosses, seconds: float) -> list[Row]:
    """One of three nodes killed and back, while others ask and one writes."""
    load = Load(servers.urls, glosses, "nodes", num_replicas=1, num_shards=3)
    await load.store.load(TENANT, glosses.documents())
    await _green(load.connection)
    written, done = 0, asyncio.Event()

    async def write() -> None:
        nonlocal written
        for encoded in glosses.documents(0, glosses.count):
            if done.is_set():
                return
            encoded.document.id = f"new-{written}"
            try:
                await load.store.upsert(TENANT, [encoded])
                written += 1
            except Unavailable:
                continue  # not promised, so not counted; the next takes its name

    async with load:
        writer = asyncio.create_task(write())
        await asyncio.sleep(seconds)
        servers.node(1).kill()
        await asyncio.sleep(2 * seconds)
        await _green(load.connection)
        done.set()
        await writer
        await load.connection.call("POST", "/nodes/_refresh")
        count = await load.store.count(TENANT)
    name = "one of three nodes killed and back"
    num_lost = max(0, glosses.count + written - count)
    lost = Row(f"{name}: lost of {glosses.count + written:,} documents", num_lost, None, "", 0, is_at_most=True)
    return [*load.seen.rows(name, is_complete=False), lost]


async def _green(connection: Connection) -> None:
    for _ in range(100):
        query = {"wait_for_nodes": "3", "wait_for_status": "green", "timeout": "5s"}
        try:
            if (await connection.call("GET", "/_cluster/health", None, query, 30))["status"] == "green":
                return
        except Exception:  # it says 408 as long as it waits
            await asyncio.sleep(1)
    raise RuntimeError("the cluster does not become green again")
