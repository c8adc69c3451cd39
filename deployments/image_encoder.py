"""The image encoder as a deployment."""

from ray import serve

from deployments.replica_logs import log_own_failures_only
from mmrag.components import ImageEmbedder
from mmrag.config import ImageEncoderConfig


# As for the text encoder; a decoded picture has up to 1 MB, so fewer calls may wait.
@serve.deployment(max_ongoing_requests=32, max_queued_requests=128, ray_actor_options={"num_cpus": 0.1})
class ImageEncoder(ImageEmbedder):
    """An `ImageEmbedder` behind a handle."""

    def __init__(self, config: ImageEncoderConfig):
        log_own_failures_only()
        super().__init__(config)

    async def ping(self) -> None:
        """Answers while the replica is alive, however busy its model is."""
