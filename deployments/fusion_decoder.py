"""The fusion decoder as a deployment."""

from ray import serve

from mmrag.components import AnswerDecoder


# A stream holds its place for as long as it is read: many may be open, each waiting most of the time.
@serve.deployment(max_ongoing_requests=256, max_queued_requests=256, ray_actor_options={"num_cpus": 0.2})
class FusionDecoder(AnswerDecoder):
    """An `AnswerDecoder` behind a handle."""

    async def ping(self) -> None:
        """Answers while the replica is alive, however busy its model is."""
