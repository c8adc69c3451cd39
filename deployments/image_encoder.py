"""The image encoder as a deployment."""

from ray import serve

from mmrag.components import ImageEmbedder


# As for the text encoder; a decoded picture has up to 1 MB, so fewer calls may wait.
@serve.deployment(max_ongoing_requests=32, max_queued_requests=128, ray_actor_options={"num_cpus": 0.1})
class ImageEncoder(ImageEmbedder):
    """An `ImageEmbedder` behind a handle."""

    async def ping(self) -> None:
        """Answers while the replica is alive, however busy its model is."""
