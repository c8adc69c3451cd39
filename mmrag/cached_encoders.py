"""Texts and pictures to embeddings by way of the cache: only what it does not have is decoded and encoded."""

import asyncio

import numpy as np

from mmrag.cache import EmbeddingCache, embedding_key
from mmrag.config import Limits
from mmrag.images import MAX_DECODED, decode_image
from mmrag.parts import EmbedsImages, EmbedsTexts


class CachedEncoders:
    """Both encoders behind one cache."""

    def __init__(
        self, text_encoder: EmbedsTexts, image_encoder: EmbedsImages, cache: EmbeddingCache, limits: Limits = Limits()
    ):
        self._text_encoder = text_encoder
        self._image_encoder = image_encoder
        self._cache = cache
        self._limits = limits

    async def texts(self, texts: list[str]) -> list[np.ndarray]:
        """The embedding of each text: float32 [dimension], L2-normalised."""

        async def compute(missing: list[int]) -> list[np.ndarray]:
            return list(await self._text_encoder.embed([texts[i] for i in missing]))

        keys = [embedding_key(self._text_encoder.fingerprint, "text", text.encode()) for text in texts]
        return await self._cache.get_many(keys, compute)

    async def images(self, images: list[bytes]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each encoded image the embedding, float32 [dimension], and the grid, float16 [regions, grid_dimension].

        Raises InvalidRequest for what cannot be decoded.
        """

        async def compute(missing: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
            embedded: list[tuple[np.ndarray, np.ndarray]] = []
            for first in range(0, len(missing), MAX_DECODED):
                group = missing[first : first + MAX_DECODED]
                decoded = [await asyncio.to_thread(decode_image, images[i], self._limits) for i in group]
                found = await self._image_encoder.embed(decoded)
                embedded += zip(found.embeddings, found.grids, strict=True)
            return embedded

        keys = [embedding_key(self._image_encoder.fingerprint, "image", image) for image in images]
        return await self._cache.get_many(keys, compute)
