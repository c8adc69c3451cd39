"""The fusion decoder as a deployment."""

from collections.abc import AsyncIterator

from ray import serve

from mmrag.config import DecoderConfig
from mmrag.types import Decoded, DecodeRequest


# A stream holds its place for as long as it is read: many may be open, each waiting most of the time.
@serve.deployment(max_ongoing_requests=256, max_queued_requests=256, ray_actor_options={"num_cpus": 0.3})
class FusionDecoder:
    """`mmrag.components.AnswerDecoder` behind a handle."""

    def __init__(self, config: DecoderConfig):
        from mmrag.components import AnswerDecoder

        self._decoder = AnswerDecoder(config)

    async def decode(self, requests: list[DecodeRequest]) -> list[Decoded]:
        """The answer to each request."""
        return await self._decoder.decode(requests)

    async def stream(self, request: DecodeRequest) -> AsyncIterator[str | Decoded]:
        """Pieces of the answer as they are written, then the whole."""
        async for piece in self._decoder.stream(request):
            yield piece

    async def ping(self) -> None:
        """Answers while the replica is alive, however busy its model is."""
