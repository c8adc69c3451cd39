"""A batch of cached embeddings through our cache, against redis-py's own MGET of the same bytes.

Both sides are asyncio, one caller, one connection, and take turns, so that what disturbs the machine disturbs both.
Ours goes the whole way: first level (empty), single flight, breaker, MGET, checksums, float32 arrays.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import numpy as np
from redis.asyncio import Redis

from loadtests.bench.redis_server import running_redis
from loadtests.bench.rows import Row
from mmrag.cache import EmbeddingCache, embedding_key
from mmrag.cache.redis_level import KEY_PREFIX, RedisLevel
from mmrag.config import CacheConfig

NUM_EMBEDDINGS, DIMENSION = 64, 384
MAX_RATIO = 1.5


async def rows(num_rounds: int = 3_000) -> list[Row]:
    """The one row: median milliseconds of a call."""
    with running_redis() as redis:
        ours_ms, theirs_ms = await measure(redis.url, num_rounds)
    name = f"one MGET of {NUM_EMBEDDINGS} embeddings, {DIMENSION} x float16, through the cache"
    return [Row(name, ours_ms, theirs_ms, "ms", MAX_RATIO, is_at_most=True)]


async def measure(url: str, num_rounds: int) -> tuple[float, float]:
    """Median milliseconds of ours and of redis-py's, over `num_rounds` rounds of one call each."""
    keys = [embedding_key("bench", "text", str(number).encode()) for number in range(NUM_EMBEDDINGS)]
    vectors = np.random.default_rng(0).normal(size=(NUM_EMBEDDINGS, DIMENSION)).astype(np.float32)
    level = RedisLevel(url, CacheConfig(timeout_ms=5_000))
    level.put(dict(zip(keys, vectors, strict=True)))
    await level.flush()
    cache, raw, names = EmbeddingCache(0, level), Redis.from_url(url), [KEY_PREFIX + key for key in keys]
    try:
        ours, theirs = await _in_turns(lambda: cache.get_many(keys, _fail), lambda: raw.mget(names), num_rounds)
    finally:
        await raw.aclose()
        await level.close()
    return 1_000 * ours, 1_000 * theirs


async def _in_turns(
    ours: Callable[[], Awaitable], theirs: Callable[[], Awaitable], num_rounds: int
) -> tuple[float, float]:
    elapsed_s: tuple[list[float], list[float]] = [], []
    for number in range(num_rounds + 20):
        for side in (0, 1) if number % 2 else (1, 0):
            started_s = time.perf_counter()
            await (ours, theirs)[side]()
            if number >= 20:  # connections are open, and everything is warm
                elapsed_s[side].append(time.perf_counter() - started_s)
    return statistics.median(elapsed_s[0]), statistics.median(elapsed_s[1])


async def _fail(missing: list[int]) -> list:
    raise RuntimeError(f"{len(missing)} embeddings were not in the cache: nothing was measured")


if __name__ == "__main__":
    [row] = asyncio.run(rows())
    print(f"{row.name}: ours {row.ours:.3f} ms, redis-py {row.theirs:.3f} ms, {row.compared:.2f} of {row.must} at most")
    raise SystemExit(not row.is_met)
