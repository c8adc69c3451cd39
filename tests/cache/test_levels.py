"""What holds for the cache with and without Redis behind it."""

import asyncio

import numpy as np
import pytest

from mmrag.cache import EmbeddingCache, embedding_key, open_cache
from mmrag.config import CacheConfig

KEYS = [embedding_key("model", "text", bytes([i])) for i in range(8)]


class Model:
    """Embeds the number of an input; remembers what it was asked."""

    def __init__(self):
        self.asked: list[list[int]] = []
        self.error: Exception | None = None

    async def text(self, missing: list[int]) -> list[np.ndarray]:
        self.asked.append(missing)
        await asyncio.sleep(0.01)
        if self.error:
            raise self.error
        return [np.full(4, i + 0.1, np.float32) for i in missing]

    async def image(self, missing: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        vectors = await self.text(missing)
        return [(vector, np.full((3, 2), i, np.float16)) for i, vector in zip(missing, vectors, strict=True)]


WITH_REDIS = [pytest.param(name, marks=pytest.mark.redis) for name in ("redis", "both")]


@pytest.fixture(params=["memory", *WITH_REDIS])
async def cache(request, monkeypatch):
    monkeypatch.delenv("MMRAG_REDIS_URL", raising=False)
    max_entries = 0 if request.param == "redis" else 100
    url = None if request.param == "memory" else request.getfixturevalue("redis").url
    cache = open_cache(CacheConfig(max_entries=max_entries, redis_url=url, timeout_ms=2_000))
    yield cache
    if cache.second:
        await cache.second.close()


async def written(cache: EmbeddingCache) -> None:
    if cache.second:
        await cache.second.flush()


async def test_what_was_computed_is_found_and_only_the_rest_is_computed(cache):
    model = Model()
    first = await cache.get_many(KEYS[:3], model.text)
    await written(cache)
    again = await cache.get_many(KEYS[:5], model.text)
    assert model.asked == [[0, 1, 2], [3, 4]]
    np.testing.assert_array_equal(first, again[:3])
    np.testing.assert_allclose(again, np.repeat(np.arange(5) + 0.1, 4).reshape(5, 4), rtol=1e-3)


async def test_who_computes_and_who_finds_get_the_same(cache):
    model = Model()
    [computed] = await cache.get_many(KEYS[:1], model.image)
    await written(cache)
    [found] = await cache.get_many(KEYS[:1], model.image)
    for before, after in zip(computed, found, strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    assert found[1].shape == (3, 2) and len(model.asked) == 1


async def test_equal_inputs_at_once_are_computed_once_in_any_order(cache):
    model = Model()
    results = await asyncio.gather(*(cache.get_many([KEYS[1], KEYS[0], KEYS[1]], model.text) for _ in range(20)))
    assert model.asked == [[0, 1]]
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    assert results[0][0][0] == results[0][2][0] != results[0][1][0]


async def test_an_error_is_raised_to_all_and_kept_by_none(cache):
    model = Model()
    model.error = ValueError("no model")
    outcomes = await asyncio.gather(*(cache.get_many(KEYS[:1], model.text) for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["no model"] * 3
    model.error = None
    assert len(await cache.get_many(KEYS[:1], model.text)) == 1


async def test_every_input_is_counted_once(cache):
    model = Model()
    await cache.get_many(KEYS[:3], model.text)
    await written(cache)
    await cache.get_many(KEYS[:4], model.text)
    counts = cache.counts()
    assert counts["misses"] == 4
    assert counts["memory_hits"] + counts["redis_hits"] == 3


@pytest.mark.parametrize("modality", ["text", "image"])
async def test_another_model_modality_or_content_never_finds_it(cache, modality):
    model, asked = Model(), embedding_key("model", modality, b"content")
    others = [
        embedding_key("model", modality, b"content "),
        embedding_key("model:2", modality, b"content"),
        embedding_key("mode", "l" + modality, b"content"),
        embedding_key("model", {"text": "image", "image": "text"}[modality], b"content"),
    ]
    await cache.get_many([asked], model.text)
    await written(cache)
    await cache.get_many(others, model.text)
    assert model.asked == [[0], [0, 1, 2, 3]]
