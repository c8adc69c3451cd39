"""The image encoder as a deployment."""

import numpy as np
from ray import serve

from mmrag.config import ImageEncoderConfig
from mmrag.types import ImageEmbeddings


# As for the text encoder; a decoded picture has up to 1 MB, so fewer calls may wait.
@serve.deployment(max_ongoing_requests=32, max_queued_requests=128, ray_actor_options={"num_cpus": 0.2})
class ImageEncoder:
    """`mmrag.components.ImageEmbedder` behind a handle."""

    def __init__(self, config: ImageEncoderConfig):
        from mmrag.components import ImageEmbedder

        self._embedder = ImageEmbedder(config)

    async def embed(self, images: list[np.ndarray]) -> ImageEmbeddings:
        """Embeddings and grids of n decoded images, uint8 [height, width, 3 or 4] each."""
        return await self._embedder.embed(images)

    async def ping(self) -> None:
        """Answers while the replica is alive, however busy its model is."""
