"""Each model with a queue in front of it and a thread beneath it: the awaitable parts of a pipeline.

The same classes serve in one process (the command line, an evaluation) and inside the replicas of a cluster.
Only one batch of a model runs at a time; its thread keeps the event loop free.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from mmrag.batching import Batcher
from mmrag.config import DecoderConfig, ImageEncoderConfig, TextEncoderConfig
from mmrag.encoders.fingerprint import image_fingerprint, text_fingerprint
from mmrag.types import Decoded, DecodeRequest, ImageEmbeddings

A = TypeVar("A")
B = TypeVar("B")

CHARS_PER_TOKEN = 4
"""A rough measure is enough to cut batches by."""


class _OneThread:
    """Runs a model's work outside the event loop, one piece at a time."""

    def __init__(self, name: str):
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[A], B], argument: A) -> B:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, argument)


class TextEmbedder:
    """`embed` for many callers at once over one TextEncoder."""

    def __init__(self, config: TextEncoderConfig):
        from mmrag.encoders.text import TextEncoder

        self.encoder = TextEncoder(config)
        self.fingerprint = text_fingerprint(config)
        self._thread = _OneThread("text-encoder")
        self._batcher: Batcher[str, np.ndarray] = Batcher(
            self._encode,
            max_batch_cost=config.max_batch_tokens,
            max_queue_cost=config.max_queue * config.max_tokens,
            cost=lambda text: min(len(text) / CHARS_PER_TOKEN + 2, config.max_tokens),
            name="text encoder",
        )

    async def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dimension], L2-normalised. Raises Overloaded when too much waits."""
        if not texts:
            return np.empty((0, self.encoder.dimension), np.float32)
        return np.stack(await _all(self._batcher.submit(text) for text in texts))

    async def _encode(self, texts: list[str]) -> Sequence[np.ndarray]:
        return list(await self._thread.run(self.encoder.encode, texts))


class ImageEmbedder:
    """`embed` for many callers at once over one ImageEncoder."""

    def __init__(self, config: ImageEncoderConfig):
        from mmrag.encoders.image import ImageEncoder

        _use_threads(config.num_threads)
        self.encoder = ImageEncoder.load(config.model, config.device)
        self.fingerprint = image_fingerprint(config)
        self._thread = _OneThread("image-encoder")
        self._batcher: Batcher[np.ndarray, tuple[np.ndarray, np.ndarray]] = Batcher(
            self._encode, max_batch_cost=config.max_batch, max_queue_cost=config.max_queue, name="image encoder"
        )

    async def embed(self, images: list[np.ndarray]) -> ImageEmbeddings:
        """Embeddings and grids of n decoded images. Raises Overloaded when too much waits."""
        if not images:
            return await self._thread.run(self.encoder.encode, [])
        embeddings, grids = zip(*await _all(self._batcher.submit(image) for image in images), strict=True)
        return ImageEmbeddings(np.stack(embeddings), np.stack(grids))

    async def _encode(self, images: list[np.ndarray]) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        found = await self._thread.run(self.encoder.encode, images)
        return list(zip(found.embeddings, found.grids, strict=True))


class AnswerDecoder:
    """`decode` and `stream` for many callers at once over one FusionDecoder, which reads the first passages only."""

    def __init__(self, config: DecoderConfig):
        from mmrag.decoder import FusionDecoder

        _use_threads(config.num_threads)
        self.decoder = FusionDecoder.load(config.model, config.device, config.max_passage_tokens)
        self._max_passages = config.max_passages
        self._thread = _OneThread("fusion-decoder")
        self._batcher: Batcher[DecodeRequest, Decoded] = Batcher(
            self._decode, max_batch_cost=config.max_batch, max_queue_cost=config.max_queue, name="fusion decoder"
        )

    async def decode(self, requests: list[DecodeRequest]) -> list[Decoded]:
        """The answer to each request. Raises Overloaded when too much waits."""
        return await _all(self._batcher.submit(request, request.deadline_s) for request in requests)

    async def stream(self, request: DecodeRequest) -> AsyncIterator[str | Decoded]:
        """Pieces of the answer as they are written, then the whole. One stream's step runs at a time."""
        pieces: Iterator[str | Decoded] = self.decoder.stream(self._bounded(request))
        while (piece := await self._thread.run(lambda it: next(it, None), pieces)) is not None:
            yield piece

    async def _decode(self, requests: list[DecodeRequest]) -> Sequence[Decoded]:
        return await self._thread.run(self.decoder.decode, [self._bounded(request) for request in requests])

    def _bounded(self, request: DecodeRequest) -> DecodeRequest:
        return replace(request, passages=request.passages[: self._max_passages])


def _use_threads(num_threads: int | None) -> None:
    if num_threads:
        import torch

        torch.set_num_threads(num_threads)


async def _all(work) -> list:
    """Await all; when one fails the others are cancelled, and what failed is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
