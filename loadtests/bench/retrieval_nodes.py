"""One of three Elasticsearch nodes killed and back, while others ask and one writes: what fails, and what is lost."""

import asyncio
from collections.abc import Iterator

from loadtests.bench.elasticsearch_server import Servers
from loadtests.bench.redis_server import RedisServer
from loadtests.bench.retrieval_data import TENANT, Glosses
from loadtests.bench.retrieval_faults import Load
from loadtests.bench.rows import Row
from mmrag.types import EncodedDocument

NAME = "one of three nodes killed and back"


async def rows(servers: Servers, redis: RedisServer, glosses: Glosses, seconds: float) -> list[Row]:
    """An index of three shards, each on two nodes; `servers` starts the node again."""
    load = Load(servers.urls, glosses, "nodes", redis.url, num_replicas=1, num_shards=3)
    await load.loader.load(TENANT, glosses.documents())
    await load.until_green(num_nodes=3)
    done = asyncio.Event()
    async with load:
        writer = asyncio.create_task(_write(load, glosses, done))
        await asyncio.sleep(seconds)
        servers.node(1).kill()
        await asyncio.sleep(seconds)
        await load.until_green(num_nodes=3)
        await asyncio.sleep(seconds)
        done.set()
        promised = [f"gloss-{i}" for i in range(glosses.count)] + await writer
        num_lost = len(promised) - await _count(load, promised)
    lost = Row(f"{NAME}: lost of {len(promised):,} documents", num_lost, None, "", 0, is_at_most=True)
    return [*load.seen.rows(NAME), lost]


async def _write(load: Load, glosses: Glosses, done: asyncio.Event) -> list[str]:
    """Write documents one by one; returns the ids of those that the store has promised to keep."""
    promised: list[str] = []
    for number, encoded in enumerate(_endless(glosses)):
        if done.is_set():
            break
        encoded.document.id = f"new-{number}"
        try:
            await load.store.upsert(TENANT, [encoded])
            promised.append(encoded.document.id)
        except Exception as error:
            load.seen.failures.append(f"a document was not taken: {error!r}")
    return promised


async def _count(load: Load, ids: list[str]) -> int:
    """How many of these documents are there: for whoever asks by id, and for whoever searches."""
    by_id = [await load.loader.content_hashes(TENANT, ids[i : i + 1_000]) for i in range(0, len(ids), 1_000)]
    await load.connection.call("POST", "/nodes/_refresh", None, None, 30)
    return min(sum(map(len, by_id)), await load.loader.count(TENANT))


def _endless(glosses: Glosses) -> Iterator[EncodedDocument]:
    while True:
        yield from glosses.documents()
