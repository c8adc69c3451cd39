"""A replica whose other rank is lost while it starts, on a real Ray without Serve."""

import os
from collections.abc import Iterator

import pytest
import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from deployments import decoder_ranks
from mmrag.config import DecoderConfig
from mmrag.decoder.group import JOIN_TIMEOUT_S, meet_at
from tests.deployments.running import ROOT

DECODER = DecoderConfig(model=str(ROOT / "atlas/weights/fusion_decoder"), tensor_parallel_size=2, num_threads=1)


@pytest.fixture
def one_machine() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield
    ray.shutdown()


@ray.remote(max_restarts=0)
class DyingRank:
    """It comes to where the ranks meet, and ends there."""

    def __init__(self, num_threads: int | None):
        pass

    def ready(self) -> None:
        pass

    def follow(self, config: DecoderConfig, rank: int, address: str) -> None:
        meet_at(address).set(f"rank {rank}", "is here")
        os._exit(0)


@ray.remote(max_restarts=0)
class Replica:
    def start(self) -> None:
        decoder_ranks.Rank = DyingRank
        decoder_ranks.Ranks(DECODER)


@pytest.mark.integration
def test_a_rank_that_is_lost_while_it_starts_ends_the_replica(one_machine):
    places = placement_group([{"CPU": 1}] * 2, "STRICT_PACK")
    there = PlacementGroupSchedulingStrategy(places, 0, placement_group_capture_child_tasks=True)
    replica = Replica.options(num_cpus=1, scheduling_strategy=there).remote()
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(replica.start.remote(), timeout=JOIN_TIMEOUT_S - 1)
