"""The fusion decoder as a deployment; one replica may be several processes, see `deployments.decoder_ranks`."""

import asyncio
from typing import Any

from ray import serve

from deployments.decoder_metrics import DecoderMetrics
from deployments.replica_logs import log_own_failures_only
from mmrag.components import AnswerDecoder
from mmrag.config import DecoderConfig

HEALTH_TIMEOUT_S = 20.0
HEALTH_PERIOD_S = 3.0


# A stream holds its place for as long as it is read: many may be open, each waiting most of the time.
@serve.deployment(max_ongoing_requests=256, max_queued_requests=256, ray_actor_options={"num_cpus": 0.2})
class FusionDecoder(AnswerDecoder):
    """An `AnswerDecoder` behind a handle."""

    def __init__(self, config: DecoderConfig):
        log_own_failures_only()
        self._ranks = None
        if config.tensor_parallel_size > 1:
            from deployments.decoder_ranks import Ranks

            self._ranks = Ranks(config)
        super().__init__(config, self._ranks and self._ranks.group)
        DecoderMetrics(self.stats).start()

    async def ping(self) -> None:
        """Answers while the replica is alive, however busy its model is."""

    async def check_health(self) -> None:
        """Every rank takes part in a step. Serve replaces the replica, with all its ranks, when this fails or hangs."""
        if self._ranks is not None:
            await asyncio.to_thread(self.engine.worker.check, HEALTH_TIMEOUT_S)


def with_places(options: dict[str, Any], config: DecoderConfig) -> dict[str, Any]:
    """The deployment's options with a place for each rank of a replica: all on one node, if they do not say otherwise.

    A replica's ranks need alike what `ray_actor_options` says.
    """
    if config.tensor_parallel_size == 1:
        return options
    needs = options.get("ray_actor_options") or FusionDecoder.ray_actor_options
    bundle = {"CPU": needs.get("num_cpus", 0), "GPU": needs.get("num_gpus", 0)} | needs.get("resources", {})
    bundle = {name: amount for name, amount in bundle.items() if amount}
    placed = {
        "placement_group_bundles": [bundle] * config.tensor_parallel_size,
        "placement_group_strategy": "STRICT_PACK",
        "health_check_period_s": HEALTH_PERIOD_S,
        "health_check_timeout_s": 2 * HEALTH_TIMEOUT_S,
    }
    return placed | options
