"""The ways in which Redis fails: every request succeeds, and the counts tell."""

import asyncio
import os
import time

import numpy as np
import pytest

from mmrag.cache import EmbeddingCache, open_cache
from mmrag.cache.redis_level import KEY_PREFIX, RedisLevel
from mmrag.config import CacheConfig
from mmrag.errors import ConfigurationError
from tests.redis_server import redis_server
from tests.waiting import until

pytestmark = pytest.mark.redis

KEYS = [bytes([i]) * 32 for i in range(64)]
VECTORS = np.random.default_rng(0).normal(size=(64, 384)).astype(np.float16).astype(np.float32)


class Service:
    """A process's cache: nothing in memory, so that every request goes to Redis."""

    def __init__(self, url: str, **settings):
        self.level = RedisLevel(url, CacheConfig(**{"timeout_ms": 2_000} | settings))
        self.cache = EmbeddingCache(0, self.level)

    async def ask(self, keys=KEYS) -> int:
        """One request, answered rightly; how many of its embeddings had to be computed."""
        asked = []

        async def compute(missing):
            asked.extend(missing)
            return [VECTORS[KEYS.index(keys[i])] for i in missing]

        found = await self.cache.get_many(keys, compute)
        np.testing.assert_array_equal(found, VECTORS[[KEYS.index(key) for key in keys]])
        await self.level.flush()
        return len(asked)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.level.close()


async def recovered(service: Service) -> None:
    until_s = time.monotonic() + 15
    while await service.ask():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.1)


async def test_one_process_finds_what_another_computed(redis):
    async with Service(redis.url) as first, Service(redis.url) as second:
        assert (await first.ask(), await second.ask()) == (64, 0)
        assert second.cache.counts()["redis_hits"] == 64


async def test_a_batch_is_one_mget_and_one_pipeline_with_expiry(redis):
    async with Service(redis.url, ttl_s=100) as service:
        await service.ask()
        before = redis.admin.info("commandstats")
        await service.ask()
        after = redis.admin.info("commandstats")
        assert after["cmdstat_mget"]["calls"] - before["cmdstat_mget"]["calls"] == 1
        assert after["cmdstat_set"]["calls"] == before["cmdstat_set"]["calls"]
    assert all(0 < redis.admin.ttl(KEY_PREFIX + key) <= 100 for key in KEYS)


async def test_what_is_in_memory_does_not_ask_redis(redis):
    cache = open_cache(CacheConfig(redis_url=redis.url))
    for _ in range(3):
        await cache.get_many(KEYS[:2], lambda missing: asyncio.sleep(0, [VECTORS[i] for i in missing]))
        await cache.second.flush()
    assert redis.admin.info("commandstats")["cmdstat_mget"]["calls"] >= 1
    calls = redis.admin.info("commandstats")["cmdstat_mget"]["calls"]
    await cache.get_many(KEYS[:2], None)
    assert redis.admin.info("commandstats")["cmdstat_mget"]["calls"] == calls
    await cache.second.close()


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"mme1" + bytes(780), bytes(784), "list", "hash", "other", "cut"])
async def test_garbage_under_our_key_is_a_miss_and_is_replaced(redis, garbage):
    async with Service(redis.url) as service:
        await service.ask()
        name, admin = KEY_PREFIX + KEYS[3], redis.admin
        sound = admin.get(name)
        admin.delete(name)
        if garbage == "list":
            admin.rpush(name, "a")
        elif garbage == "hash":
            admin.hset(name, "a", "b")
        elif garbage == "other":
            admin.set(name, admin.get(KEY_PREFIX + KEYS[4]))
        elif garbage == "cut":
            admin.set(name, sound[:300])
        else:
            admin.set(name, garbage)
        assert await service.ask() == 1
        assert admin.get(name) == sound
        assert await service.ask() == 0
        assert service.cache.counts()["redis_hits"] == 63 + 64


async def test_gone_then_back_empty():
    with redis_server() as server:
        async with Service(server.url) as service:
            assert (await service.ask(), await service.ask()) == (64, 0)
            server.kill()
            assert [await service.ask() for _ in range(10)] == [64] * 10
            server.start(port=server.url.rpartition(":")[2])
            await recovered(service)
            assert service.cache.counts()["redis_errors"] > 0


async def test_a_restart_between_two_requests_costs_no_more_than_what_was_stored():
    with redis_server() as server:
        async with Service(server.url) as service:
            await asyncio.gather(*(service.ask(KEYS[i : i + 8]) for i in range(0, 64, 8)))
            server.restart()
            assert (await service.ask(), await service.ask()) == (64, 0)


async def test_a_redis_that_does_not_answer_costs_the_timeout_a_few_times_and_then_nothing(redis):
    async with Service(redis.url, timeout_ms=500, max_connections=4) as service:
        assert (await service.ask(), await service.ask()) == (64, 0)
        with redis.frozen():
            started_s = time.monotonic()
            for _ in range(3):
                assert sum(await asyncio.gather(*(service.ask([key]) for key in KEYS))) == 64
            # 3 rounds of 64 requests, each waiting for a read and a write over 4 connections, would take 48 s.
            assert time.monotonic() - started_s < 20
            errors = service.cache.counts()["redis_errors"]
            assert errors > 0
            await service.ask()
            assert service.cache.counts()["redis_errors"] <= errors + 2
        await recovered(service)
        # No connection was lost on the way, and none has an old answer in it.
        assert sum(await asyncio.gather(*(service.ask([key]) for key in KEYS))) == 0


async def test_a_full_redis_still_gives_what_it_holds():
    with redis_server("--maxmemory-policy", "noeviction") as server:
        async with Service(server.url) as service:
            assert (await service.ask(KEYS[:32]), await service.ask(KEYS[:32])) == (32, 0)
            server.admin.config_set("maxmemory", 1)
            assert [await service.ask() for _ in range(8)] == [32] * 8
            counts = service.cache.counts()
            assert counts["redis_written"] == 32 and counts["redis_not_written"] == 8 * 32
            server.admin.config_set("maxmemory", 0)
            await recovered(service)


async def test_an_evicting_redis_keeps_to_its_bound():
    with redis_server("--maxmemory", "3mb") as server:
        async with Service(server.url) as service:
            for round_ in range(40):
                keys = {bytes([round_]) * 4 + key[:28]: VECTORS[i] for i, key in enumerate(KEYS)}
                service.level.put(keys)
                await service.level.flush()
            assert server.admin.info("stats")["evicted_keys"] > 0
            assert service.level.counts["written"] == 40 * 64


async def test_callers_who_leave_do_not_spoil_the_connections(redis):
    async with Service(redis.url, max_connections=2) as service:
        await service.ask()
        for i in range(60):
            task = asyncio.create_task(service.ask([KEYS[i]]))
            await asyncio.sleep(0.0002 * (i % 8))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await service.ask() == 0
        assert sum(await asyncio.gather(*(service.ask([key]) for key in KEYS))) == 0


async def test_more_callers_than_connections_wait_for_one(redis):
    async with Service(redis.url, max_connections=2) as service:
        await service.ask()
        assert sum(await asyncio.gather(*(service.ask([key]) for key in KEYS))) == 0
        assert redis.admin.info("clients")["connected_clients"] < 8


async def test_what_cannot_be_written_in_time_does_not_pile_up(redis, monkeypatch):
    monkeypatch.setattr("mmrag.cache.redis_level.MAX_WAITING_BYTES", 8 * 1024)
    async with Service(redis.url) as service:
        service.level.put(dict(zip(KEYS, VECTORS, strict=True)))
        assert service.level.counts["not_written"] == 64 - 8 * 1024 // 792
        await service.level.flush()
        assert redis.admin.dbsize() == 8 * 1024 // 792


def test_it_serves_one_event_loop_after_the_other(redis):
    async def ask_twice() -> int:
        return await service.ask()

    service = Service(redis.url)
    assert [asyncio.run(ask_twice()) for _ in range(3)] == [64, 0, 0]


def test_the_address_may_come_from_the_environment(redis, monkeypatch):
    monkeypatch.setenv("MMRAG_REDIS_URL", redis.url)
    assert open_cache(CacheConfig()).second is not None
    monkeypatch.delenv("MMRAG_REDIS_URL")
    assert open_cache(CacheConfig()).second is None


def test_what_is_no_address_is_said_without_its_password():
    with pytest.raises(ConfigurationError, match="MMRAG_REDIS_URL") as error:
        open_cache(CacheConfig(redis_url="http://:secret@cache:6379"))
    assert "secret" not in str(error.value)


def test_the_script_ends_cleanly():
    with redis_server() as server:
        pid, directory = server.pid, server.admin.config_get("dir")["dir"]
        server.stop()
        until(lambda: not os.path.exists(f"/proc/{pid}"))
        assert server.process.returncode == 0 and not os.path.exists(directory)
