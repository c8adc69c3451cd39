"""The same over a Redis Cluster of three nodes, where the keys of a batch lie on all of them."""

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.cache.test_redis_level import KEYS, Service, recovered
from tests.redis_server import RedisServer, redis_server
from tests.waiting import until

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[RedisServer]]:
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(redis_server("--cluster-enabled", "yes")) for _ in range(3)]
        addresses = [node.url.removeprefix("redis://") for node in nodes]
        command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True)
        until(lambda: all(node.admin.cluster("INFO")["cluster_state"] == "ok" for node in nodes))
        yield nodes


async def test_a_batch_is_spread_over_the_nodes_and_found_again(nodes):
    async with Service(nodes[0].url, redis_cluster=True) as first, Service(nodes[1].url, redis_cluster=True) as second:
        assert (await first.ask(), await second.ask()) == (64, 0)
        sizes = [node.admin.dbsize() for node in nodes]
        assert sum(sizes) == len(KEYS) and min(sizes) > 0


async def test_a_node_that_is_gone_or_silent_is_a_miss(nodes):
    async with Service(nodes[0].url, redis_cluster=True, timeout_ms=200) as service:
        await service.ask()
        with nodes[1].frozen():
            for _ in range(8):
                await service.ask()
        await recovered(service)
