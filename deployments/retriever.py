"""The retriever as a deployment."""

from ray import serve

from deployments.replica_logs import log_own_failures_only
from mmrag.config import AppConfig
from mmrag.knowledge_base import KnowledgeBase


# All replicas share one store: what one has written all others see. Searches take milliseconds; only writing many
# documents takes longer, and waits for a lock meanwhile.
@serve.deployment(max_ongoing_requests=64, max_queued_requests=256, ray_actor_options={"num_cpus": 0.2})
class Retriever(KnowledgeBase):
    """A `KnowledgeBase` behind a handle."""

    def __init__(self, config: AppConfig):
        log_own_failures_only()
        super().__init__(config)

    async def ping(self) -> None:
        """Answers while the replica is alive."""
