"""The text encoder as a deployment."""

from ray import serve

from deployments.replica_logs import log_own_failures_only
from mmrag.components import TextEmbedder
from mmrag.config import TextEncoderConfig


# One call carries the texts of many requests, so a few calls in flight keep the model busy. What waits, waits in the
# queues of the caller and of the model, which know what a text costs and refuse with 429 when full; here only a
# caller gone wrong is stopped.
@serve.deployment(max_ongoing_requests=64, max_queued_requests=256, ray_actor_options={"num_cpus": 0.2})
class TextEncoder(TextEmbedder):
    """A `TextEmbedder` behind a handle."""

    def __init__(self, config: TextEncoderConfig):
        log_own_failures_only()
        super().__init__(config)

    async def ping(self) -> None:
        """Answers while the replica is alive, however busy its model is."""
