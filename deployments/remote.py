"""The parts of a pipeline (see `mmrag.parts`) where each is a deployment.

In front of each waits a queue: one call carries the work of many requests, and what cannot be taken is refused here,
where it costs least.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence, Sized
from itertools import accumulate, pairwise
from typing import TypeVar

import numpy as np
from ray.serve.handle import DeploymentHandle

from deployments.remote_calls import RemotePart
from mmrag.batching import Batcher
from mmrag.config import DecoderConfig, ImageEncoderConfig, RetrieverConfig, TextEncoderConfig
from mmrag.encoders.fingerprint import image_fingerprint, text_fingerprint
from mmrag.errors import NotFound
from mmrag.types import (
    Decoded,
    DecodeRequest,
    Document,
    EncodedDocument,
    Evidence,
    ImageEmbeddings,
    SearchRequest,
    StoredImage,
)

T = TypeVar("T")

MAX_CALLS = 3
"""Calls in flight for each replica of a component: while one is computed the next is there. All of them, where work is
more than can be done: what autoscaling sees, whose target is to be below that."""

MAX_TEXTS_PER_CALL = 64
MAX_PIXEL_BYTES_PER_CALL = 16 * 2**20
MAX_PIXEL_BYTES = 2**20
"""A decoded picture at its largest: `mmrag.images.MAX_SIDE` squared, four channels."""


class RemoteTextEncoder(RemotePart):
    """`EmbedsTexts` over a handle."""

    def __init__(self, handle: DeploymentHandle, config: TextEncoderConfig):
        super().__init__(handle, "text encoder")
        self.fingerprint = text_fingerprint(config)
        self._batcher: Batcher[list[str], np.ndarray] = Batcher(
            self._embed,
            max_batch_cost=MAX_TEXTS_PER_CALL,
            max_queue_cost=config.max_queued_texts,
            max_concurrent_batches=lambda: MAX_CALLS * self.num_replicas,
            cost=len,
            name=self.name,
        )

    async def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dimension], L2-normalised."""
        # One part after the other: between two of them is the turn of those who came meanwhile.
        parts = _chunks(texts, lambda text: 1, MAX_TEXTS_PER_CALL)
        return np.concatenate([await self._batcher.submit(part) for part in parts])

    async def _embed(self, requests: list[list[str]]) -> Sequence[np.ndarray]:
        embeddings = await self.call("embed", [text for texts in requests for text in texts])
        return [embeddings[span] for span in _spans(requests)]


class RemoteImageEncoder(RemotePart):
    """`EmbedsImages` over a handle."""

    def __init__(self, handle: DeploymentHandle, config: ImageEncoderConfig):
        super().__init__(handle, "image encoder")
        self.fingerprint = image_fingerprint(config)
        self._batcher: Batcher[list[np.ndarray], ImageEmbeddings] = Batcher(
            self._embed,
            max_batch_cost=MAX_PIXEL_BYTES_PER_CALL,
            max_queue_cost=config.max_queued_images * MAX_PIXEL_BYTES,
            max_concurrent_batches=lambda: MAX_CALLS * self.num_replicas,
            cost=lambda images: sum(image.nbytes for image in images),
            name=self.name,
        )

    async def embed(self, images: list[np.ndarray]) -> ImageEmbeddings:
        """Embeddings and grids of n decoded images, uint8 [height, width, 3 or 4] each."""
        parts = _chunks(images, lambda image: image.nbytes, MAX_PIXEL_BYTES_PER_CALL)
        found = [await self._batcher.submit(part) for part in parts]
        embeddings = np.concatenate([part.embeddings for part in found])
        return ImageEmbeddings(embeddings, np.concatenate([part.grids for part in found]))

    async def _embed(self, requests: list[list[np.ndarray]]) -> Sequence[ImageEmbeddings]:
        found: ImageEmbeddings = await self.call("embed", [image for images in requests for image in images])
        return [ImageEmbeddings(found.embeddings[span], found.grids[span]) for span in _spans(requests)]


class RemoteRetriever(RemotePart):
    """`Knowledge` over a handle."""

    def __init__(self, handle: DeploymentHandle, config: RetrieverConfig):
        super().__init__(handle, "retriever")
        self._batcher: Batcher[list[SearchRequest], list[Evidence]] = Batcher(
            self._search,
            max_batch_cost=32,
            max_queue_cost=config.max_queued_searches,
            max_concurrent_batches=lambda: MAX_CALLS * self.num_replicas,
            cost=len,
            name=self.name,
        )

    async def search(self, requests: list[SearchRequest]) -> list[Evidence]:
        """The passages for each request, best first."""
        return await self._batcher.submit(requests)

    async def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        """Write documents: seen by every replica when this returns."""
        await self.call("upsert", tenant, documents)

    async def delete(self, tenant: str, document_id: str) -> None:
        """Raises NotFound, but not of a document that this very call has deleted on a replica that was then lost."""
        await self.call("delete", tenant, document_id, done=(NotFound,))

    async def get(self, tenant: str, document_id: str) -> Document:
        """Raises NotFound."""
        return await self.call("get", tenant, document_id)

    async def image(self, tenant: str, image_id: str) -> StoredImage:
        """Raises NotFound."""
        return await self.call("image", tenant, image_id)

    async def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        """The content hash of each of these documents that is stored."""
        return await self.call("content_hashes", tenant, document_ids)

    async def _search(self, batch: list[list[SearchRequest]]) -> Sequence[list[Evidence]]:
        found = await self.call("search", [request for requests in batch for request in requests])
        return [found[span] for span in _spans(batch)]


class RemoteDecoder(RemotePart):
    """`Decoder` over a handle.

    A call for each request: the engine lets them join and leave at any step, so that none waits for another's end,
    fails with it, or is written on when its own caller has gone. Twice as many are sent as are written at a time:
    the others are read meanwhile.
    """

    def __init__(self, handle: DeploymentHandle, config: DecoderConfig):
        super().__init__(handle, "fusion decoder")
        self._batcher: Batcher[DecodeRequest, Decoded] = Batcher(
            lambda requests: self.call("decode", requests),
            max_batch_cost=1,
            max_queue_cost=config.max_queued_requests,
            max_concurrent_batches=lambda: 2 * config.max_batch * self.num_replicas,
            name=self.name,
        )

    async def decode(self, requests: list[DecodeRequest]) -> list[Decoded]:
        """The answer to each request."""
        return [await self._batcher.submit(request, request.deadline_s) for request in requests]

    def stream(self, request: DecodeRequest) -> AsyncIterator[str | Decoded]:
        """Pieces of the answer as they are written, then the whole."""
        return self.pieces("stream", request)


def _chunks(items: list[T], cost: Callable[[T], int], max_cost: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    chunk_cost = 0
    for item in items:
        if chunk and chunk_cost + cost(item) > max_cost:
            yield chunk
            chunk, chunk_cost = [], 0
        chunk.append(item)
        chunk_cost += cost(item)
    yield chunk


def _spans(parts: Sequence[Sized]) -> list[slice]:
    # Where each part lies when all are laid end to end.
    ends = accumulate((len(part) for part in parts), initial=0)
    return [slice(start, end) for start, end in pairwise(ends)]
