"""The other ranks of a decoder that several processes share: actors in the placement group of its replica.

The replica is rank 0, in bundle 0; rank i is in bundle i. All of them end together: when one is lost, so are the
others, the replica's process too, and Serve starts a new replica, which starts new ranks.
"""

import logging
import os
import threading
import time

import ray
from ray.util import get_current_placement_group, get_node_ip_address
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mmrag.components.threads import use_threads
from mmrag.config import DecoderConfig
from mmrag.decoder.checkpoint import find_checkpoint
from mmrag.decoder.group import Group, meet_at, meeting_place
from mmrag.decoder.parallel import check_divisible
from mmrag.decoder.ranks import follow
from mmrag.decoder.settings import DecoderModelConfig
from mmrag.decoder.worker import Worker
from mmrag.errors import ConfigurationError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0
LAST_WORDS_S = 0.5
"""Requests in flight are told what happened before the replica's process ends."""


@ray.remote(max_restarts=0)
class Rank:
    """Rank 1 or one after it: its process ends with the group."""

    def __init__(self, num_threads: int | None):
        use_threads(num_threads)

    def ready(self) -> None:
        """Returns when the process is there."""

    def follow(self, config: DecoderConfig, rank: int, address: str) -> None:
        """Take part until rank 0 closes or is lost."""
        try:
            group = Group(rank, config.tensor_parallel_size, meet_at(address), config.device)
            follow(Worker.load(config, group), group)
        except Exception as error:
            log.error("rank %d of the fusion decoder ends: %s", rank, error)
        finally:
            os._exit(0)  # whatever waits in native code for the other ranks


class Ranks:
    """The ranks of this replica, itself among them as `group`.

    Raises ConfigurationError when the model cannot be shared so, or the replica has no place for its ranks.
    """

    def __init__(self, config: DecoderConfig):
        shape = DecoderModelConfig.load(find_checkpoint(config.model), has_head=True)
        check_divisible(shape, config.tensor_parallel_size)
        self._actors = _start(config)
        store, address = meeting_place(get_node_ip_address())
        following = [actor.follow.remote(config, rank, address) for rank, actor in enumerate(self._actors, 1)]
        # Before the group is made: a rank may be lost while the others wait for it there.
        threading.Thread(target=self._watch, args=(following,), name="decoder-ranks", daemon=True).start()
        self.group = Group(0, config.tensor_parallel_size, store, config.device)

    def _watch(self, following: list) -> None:
        ray.wait(following, num_returns=1)
        log.error("a rank of the fusion decoder was lost: this replica ends, and another is started")
        time.sleep(LAST_WORDS_S)
        os._exit(1)


def _start(config: DecoderConfig) -> list:
    size = config.tensor_parallel_size
    placement = get_current_placement_group()
    if placement is None or len(placement.bundle_specs) < size:
        raise ConfigurationError(
            f"decoder.tensor_parallel_size is {size}: give the deployment FusionDecoder {size} "
            "placement_group_bundles, each with what one rank needs"
        )
    actors = []
    for rank in range(1, size):
        needs = placement.bundle_specs[rank]
        where = PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=rank)
        options = {"num_cpus": needs.get("CPU", 0), "num_gpus": needs.get("GPU", 0), "scheduling_strategy": where}
        actors.append(Rank.options(**options).remote(config.num_threads))
    ray.get([actor.ready.remote() for actor in actors], timeout=START_TIMEOUT_S)
    return actors
