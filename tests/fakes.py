"""Tiny real parts of a pipeline, for what cannot be made to happen with the real ones."""

import asyncio

import numpy as np

from mmrag.errors import Unavailable
from mmrag.types import Decoded, DecodeRequest, Evidence, ImageEmbeddings, Passage, SearchRequest


class Embedder:
    """Embeds a text by the letters in it and an image by its mean colour; counts what it was asked for."""

    def __init__(self, fingerprint: str, delay_s: float = 0.0):
        self.fingerprint = fingerprint
        self.delay_s = delay_s
        self.down = False
        self.asked: list = []
        self.num_cancelled = 0

    async def _work(self, inputs: list) -> None:
        self.asked.append(inputs)
        if self.down:
            raise Unavailable("no replica answers")
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise


class TextEmbedder(Embedder):
    async def embed(self, texts: list[str]) -> np.ndarray:
        await self._work(texts)
        counts = np.array([[text.lower().count(letter) for letter in "abcdefgh"] for text in texts], np.float32) + 0.01
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class ImageEmbedder(Embedder):
    async def embed(self, images: list[np.ndarray]) -> ImageEmbeddings:
        await self._work(images)
        colours = np.array([[*image[..., :3].mean(axis=(0, 1)), 1, 0, 0, 0, 0] for image in images], np.float32)
        embeddings = colours / np.linalg.norm(colours, axis=1, keepdims=True)
        return ImageEmbeddings(embeddings, np.zeros((len(images), 4, 3), np.float16))


class Searcher:
    """Finds the same passages for everyone, and remembers what it was asked."""

    def __init__(self, passages: list[Passage]):
        self.passages = passages
        self.down = False
        self.degraded: list[str] = []
        self.requests: list[SearchRequest] = []

    async def search(self, requests: list[SearchRequest]) -> list[Evidence]:
        self.requests += requests
        if self.down:
            raise Unavailable("the index is closed")
        return [Evidence(self.passages[: request.top_k], self.degraded) for request in requests]


class EchoDecoder:
    """Answers with the text of the first passage, word by word."""

    def __init__(self, delay_s: float = 0.0):
        self.delay_s = delay_s
        self.requests: list[DecodeRequest] = []

    async def decode(self, requests: list[DecodeRequest]) -> list[Decoded]:
        self.requests += requests
        await asyncio.sleep(self.delay_s)
        return [Decoded(request.passages[0].text if request.passages else "unknown") for request in requests]

    async def stream(self, request: DecodeRequest):
        [decoded] = await self.decode([request])
        for word in decoded.text.split():
            yield word + " "
        yield decoded
