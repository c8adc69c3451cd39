"""A service with Redis behind its cache: what its requests get when another has computed, and when Redis fails."""

import asyncio
import io

import numpy as np
import pytest
from fakes import EchoDecoder, ImageEmbedder, Searcher, TextEmbedder
from PIL import Image

from mmrag.cache import open_cache
from mmrag.config import CacheConfig, TextEncoderConfig
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.knowledge.passages import Splitter
from mmrag.pipeline import Pipeline
from mmrag.types import Passage, Query
from tests.redis_server import RedisServer

pytestmark = pytest.mark.redis
PASSAGE = Passage(id="country-pe#0", document_id="country-pe", title="Peru", text="The capital is Lima.")


class Service:
    """One process: its own encoders and first level."""

    def __init__(self, redis: RedisServer, text_model: str = "text-model", image_model: str = "image-model"):
        self.text_encoder, self.image_encoder = TextEmbedder(text_model), ImageEmbedder(image_model)
        self.searcher, self.decoder = Searcher([PASSAGE]), EchoDecoder()
        self.cache = open_cache(CacheConfig(redis_url=redis.url, timeout_ms=300))
        self.pipeline = Pipeline(
            text_encoder=self.text_encoder,
            image_encoder=self.image_encoder,
            retriever=self.searcher,
            decoder=self.decoder,
            splitter=Splitter(load_tokenizer(TextEncoderConfig())),
            cache=self.cache,
        )

    async def ask(self, text: str = "abc", colour: str = "red") -> tuple[int, int]:
        """How many texts and images the encoders were asked for."""
        before = self._num_embedded()
        answer = await self.pipeline.answer(Query(text=text, image=picture(colour)))
        assert answer.answer == "The capital is Lima." and answer.degraded == []
        await self.cache.second.flush()
        after = self._num_embedded()
        return after[0] - before[0], after[1] - before[1]

    def _num_embedded(self) -> tuple[int, int]:
        return tuple(sum(len(batch) for batch in part.asked) for part in (self.text_encoder, self.image_encoder))

    async def close(self) -> None:
        await self.cache.second.close()


@pytest.fixture
async def started(redis):
    services: list[Service] = []

    def start(**models: str) -> Service:
        services.append(Service(redis, **models))
        return services[-1]

    yield start
    for service in services:
        await service.close()


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


async def test_what_one_embedded_no_other_embeds(started):
    first, second = started(), started()
    assert [await first.ask(), await second.ask(), await second.ask()] == [(1, 1), (0, 0), (0, 0)]
    [theirs], [ours] = first.decoder.requests, second.decoder.requests[:1]
    for name in ("text_embedding", "image_embedding", "image_grid"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    assert second.cache.counts()["redis_hits"] == second.cache.counts()["memory_hits"] == 2


async def test_another_model_embeds_anew_and_the_old_one_finds_its_own(started):
    old = started()
    await old.ask()
    assert await started(text_model="text-model-2").ask() == (1, 0)
    assert await started(image_model="image-model-2").ask() == (0, 1)
    assert await started().ask() == (0, 0)


async def test_no_request_fails_while_redis_does_not_answer(redis, started):
    service = started()
    await service.ask()
    with redis.frozen():
        asked = await asyncio.gather(*(service.ask(text, colour="blue") for text in "abcdefgh"))
        assert sum(texts for texts, _ in asked) >= 8
        assert await service.ask() == (0, 0)  # what is in memory does not ask
    assert service.cache.counts()["redis_errors"] > 0


async def test_nothing_of_garbage_reaches_an_answer(redis, started):
    service = started()
    await service.ask()
    for name in redis.admin.keys("mmrag:*"):
        redis.admin.set(name, b"mme1" + b"\xff" * 60)
    assert await started().ask() == (1, 1)
    assert await started().ask() == (0, 0)
