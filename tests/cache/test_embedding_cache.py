import asyncio

import numpy as np

from mmrag.cache import EmbeddingCache, embedding_key


async def test_equal_inputs_in_flight_are_computed_once():
    cache: EmbeddingCache[str] = EmbeddingCache(max_entries=10)
    asked: list[list[int]] = []

    async def compute(missing):
        asked.append(missing)
        await asyncio.sleep(0.01)
        return [f"value {i}" for i in missing]

    results = await asyncio.gather(*(cache.get_many([b"a", b"b", b"a"], compute) for _ in range(20)))
    assert asked == [[0, 1]]
    assert results == [["value 0", "value 1", "value 0"]] * 20
    assert await cache.get_many([b"b"], compute) == ["value 1"]
    assert asked == [[0, 1]]


async def test_only_what_is_missing_is_computed():
    cache: EmbeddingCache[int] = EmbeddingCache(max_entries=10)
    await cache.get_many([b"a"], lambda missing: _return([1]))
    asked = []

    async def compute(missing):
        asked.append(missing)
        return [2 for _ in missing]

    assert await cache.get_many([b"a", b"b"], compute) == [1, 2]
    assert asked == [[1]]


async def test_the_least_recently_used_leaves_first():
    cache: EmbeddingCache[bytes] = EmbeddingCache(max_entries=2)
    computed = []

    async def ask(key):
        async def compute(missing):
            computed.append(key)
            return [key]

        await cache.get_many([key], compute)

    for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
        await ask(key)
    assert computed == [b"a", b"b", b"c", b"b"]


async def test_others_get_their_value_when_the_first_caller_leaves():
    cache: EmbeddingCache[int] = EmbeddingCache(max_entries=10)
    started = asyncio.Event()

    async def compute(missing):
        started.set()
        await asyncio.sleep(0.02)
        return [7]

    first = asyncio.create_task(cache.get_many([b"a"], compute))
    await started.wait()
    second = asyncio.create_task(cache.get_many([b"a"], compute))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == [7]


async def test_work_stops_when_all_callers_left_and_a_later_caller_starts_anew():
    cache: EmbeddingCache[int] = EmbeddingCache(max_entries=10)
    outcomes = []

    async def compute(missing):
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise
        outcomes.append("done")
        return [7]

    caller = asyncio.create_task(cache.get_many([b"a"], compute))
    await asyncio.sleep(0.001)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert await cache.get_many([b"a"], compute) == [7]
    assert outcomes == ["cancelled", "done"]


async def test_an_error_reaches_every_caller_and_is_not_cached():
    cache: EmbeddingCache[int] = EmbeddingCache(max_entries=10)

    async def fail(missing):
        await asyncio.sleep(0)
        raise ValueError("no model")

    results = await asyncio.gather(*(cache.get_many([b"a"], fail) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no model"] * 3
    assert await cache.get_many([b"a"], lambda missing: _return([1])) == [1]


async def test_nobody_fails_because_of_what_another_asked_for_too():
    cache: EmbeddingCache[bytes] = EmbeddingCache(max_entries=10)
    asked = []

    def computing(*keys: bytes):
        async def compute(missing):
            mine = [keys[i] for i in missing]
            asked.append(mine)
            await asyncio.sleep(0.01)
            if b"broken" in mine:
                raise ValueError("broken")
            return mine

        return cache.get_many(keys, compute)

    first, second, third = await asyncio.gather(
        computing(b"a", b"broken"), computing(b"a", b"b"), computing(b"b", b"broken", b"c"), return_exceptions=True
    )
    assert (str(first), second, str(third)) == ("broken", [b"a", b"b"], "broken")
    assert sorted(asked) == [[b"a"], [b"a", b"broken"], [b"b"], [b"broken"], [b"c"]]
    assert await cache.get_many([b"a"], None) == [b"a"]


async def test_a_small_request_does_not_wait_for_a_large_one():
    cache: EmbeddingCache[int] = EmbeddingCache(max_entries=10)
    large_may_end = asyncio.Event()
    computed = []

    async def slowly(missing):
        await large_may_end.wait()
        return [0 for _ in missing]

    async def quickly(missing):
        computed.append(missing)
        await asyncio.sleep(0.01)
        return [1 for _ in missing]

    large = asyncio.create_task(cache.get_many([b"a", b"b", b"c"], slowly))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(cache.get_many([b"a"], quickly) for _ in range(20))) == [[1]] * 20
    assert computed == [[0]]
    large_may_end.set()
    assert await large == [0, 0, 0]


async def test_a_row_that_is_kept_does_not_keep_its_batch():
    cache: EmbeddingCache[np.ndarray] = EmbeddingCache(max_entries=10)
    batch = np.ones((100, 4))
    await cache.get_many([b"a", b"b"], lambda missing: _return([batch[0], (batch[1], batch[2])]))
    vector, (other, grid) = await cache.get_many([b"a", b"b"], None)
    assert vector.base is None and other.base is None and grid.base is None


def test_keys_of_different_inputs_differ():
    keys = {
        embedding_key("m", "text", b"ab"),
        embedding_key("mtext", "", b"ab"),
        embedding_key("m", "texta", b"b"),
        embedding_key("m", "image", b"ab"),
        embedding_key("m2", "text", b"ab"),
    }
    assert len(keys) == 5


async def _return(value):
    return value


