"""The text encoder as a deployment."""

import numpy as np
from ray import serve

from mmrag.config import TextEncoderConfig


# One call carries the texts of many requests, so a few calls in flight keep the model busy; what waits, waits in the
# caller's and the model's own queues, which know what a text costs and refuse with 429 when full.
@serve.deployment(max_ongoing_requests=64, max_queued_requests=256, ray_actor_options={"num_cpus": 0.3})
class TextEncoder:
    """`mmrag.components.TextEmbedder` behind a handle."""

    def __init__(self, config: TextEncoderConfig):
        from mmrag.components import TextEmbedder

        self._embedder = TextEmbedder(config)

    async def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dimension], L2-normalised."""
        return await self._embedder.embed(texts)

    async def ping(self) -> None:
        """Answers while the replica is alive, however busy its model is."""
