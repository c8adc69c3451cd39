"""The encoders as awaitable parts."""

from collections.abc import Callable, Sequence

import numpy as np

from mmrag.batching import Batcher
from mmrag.components.threads import Threads, use_one_core
from mmrag.config import ImageEncoderConfig, TextEncoderConfig
from mmrag.cores import num_cores
from mmrag.encoders.fingerprint import image_fingerprint, text_fingerprint
from mmrag.types import ImageEmbeddings

MAX_INLINE_CHARS = 2_000
"""Texts that are longer together are tokenized in a thread; for these, going there takes longer than the work."""


class TextEmbedder:
    """`embed` for many callers at once over one TextEncoder.

    On a CPU there is a thread for each core, and each computes batches of its own, of texts alike in length: that
    costs less than all cores at one batch, which wait for each other after every product.
    """

    def __init__(self, config: TextEncoderConfig):
        from mmrag.encoders.text import TextEncoder

        self.encoder = TextEncoder(config)
        self.fingerprint = text_fingerprint(config)
        self._tokenizing = Threads("tokenizer")
        num_workers, on_start = _workers(config)
        self._encoding = Threads("text-encoder", num_workers, on_start)
        self._batcher: Batcher[list[int], np.ndarray] = Batcher(
            self._encode,
            max_batch_cost=self.encoder.max_batch_tokens,
            max_queue_cost=config.max_queued_texts * config.max_tokens,
            max_concurrent_batches=num_workers,
            cost=len,
            sorts_by_cost=True,
            name="text encoder",
        )

    async def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dimension], L2-normalised. Raises Overloaded when too much waits."""
        if not texts:
            return np.empty((0, self.encoder.dimension), np.float32)
        if sum(map(len, texts)) <= MAX_INLINE_CHARS:
            token_ids = self.encoder.tokenize(texts)
        else:
            token_ids = await self._tokenizing.run(self.encoder.tokenize, texts)
        return np.stack(await self._batcher.submit_all(token_ids))

    async def _encode(self, token_ids: list[list[int]]) -> Sequence[np.ndarray]:
        return list(await self._encoding.run(self.encoder.encode_tokens, token_ids))


class ImageEmbedder:
    """`embed` for many callers at once over one ImageEncoder."""

    def __init__(self, config: ImageEncoderConfig):
        from mmrag.encoders.image import ImageEncoder

        self.encoder = ImageEncoder.load(config.model, config.device)
        self.encoder.accelerate(config.precision)
        self.fingerprint = image_fingerprint(config)
        self._preparing = Threads("image-preparation")
        num_workers, on_start = _workers(config)
        self._encoding = Threads("image-encoder", num_workers, on_start)
        self._batcher: Batcher[np.ndarray, tuple[np.ndarray, np.ndarray]] = Batcher(
            self._encode,
            max_batch_cost=config.max_batch,
            max_queue_cost=config.max_queued_images,
            max_concurrent_batches=num_workers,
            sorts_by_cost=True,
            name="image encoder",
        )

    async def embed(self, images: list[np.ndarray]) -> ImageEmbeddings:
        """Embeddings and grids of n decoded images. Raises Overloaded when too much waits."""
        if not images:
            return self.encoder.encode([])
        squares = await self._preparing.run(self.encoder.prepare, images)
        embeddings, grids = zip(*await self._batcher.submit_all(squares), strict=True)
        return ImageEmbeddings(np.stack(embeddings), np.stack(grids))

    async def _encode(self, squares: list[np.ndarray]) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        found = await self._encoding.run(self.encoder.encode_squares, squares)
        return list(zip(found.embeddings, found.grids, strict=True))


def _workers(config: TextEncoderConfig | ImageEncoderConfig) -> tuple[int, Callable[[], None]]:
    """How many threads compute at a time, and what each does first."""
    if not config.device.startswith("cpu"):
        return 1, lambda: None
    return config.num_threads or num_cores(), use_one_core
