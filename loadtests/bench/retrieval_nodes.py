"""One of three Elasticsearch nodes killed and back, while others ask and one writes: what fails, and what is lost."""

import asyncio
from collections.abc import Iterator

from loadtests.bench.elasticsearch_server import Servers
from loadtests.bench.redis_server import RedisServer
from loadtests.bench.retrieval_data import TENANT, Glosses
from loadtests.bench.retrieval_faults import Load
from loadtests.bench.rows import Row
from mmrag.errors import Unavailable
from mmrag.types import EncodedDocument

NAME = "one of three nodes killed and back"


async def rows(servers: Servers, redis: RedisServer, glosses: Glosses, seconds: float) -> list[Row]:
    """An index of three shards, each on two nodes; `servers` starts the node again."""
    load = Load(servers.urls, glosses, "nodes", redis.url, num_replicas=1, num_shards=3)
    await load.store.load(TENANT, glosses.documents())
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
        num_promised = glosses.count + await writer
        await load.connection.call("POST", "/nodes/_refresh", None, None, 30)
        num_lost = max(0, num_promised - await load.store.count(TENANT))
    lost = Row(f"{NAME}: lost of {num_promised:,} documents", num_lost, None, "", 0, is_at_most=True)
    return [*load.seen.rows(NAME), lost]


async def _write(load: Load, glosses: Glosses, done: asyncio.Event) -> int:
    """Write documents one by one; returns how many the store has promised to keep."""
    num_promised = 0
    for encoded in _endless(glosses):
        if done.is_set():
            break
        encoded.document.id = f"new-{num_promised}"
        try:
            await load.store.upsert(TENANT, [encoded])
            num_promised += 1
        except Unavailable:
            continue  # not promised; the next takes its name
    return num_promised


def _endless(glosses: Glosses) -> Iterator[EncodedDocument]:
    while True:
        yield from glosses.documents()
