"""The processes (ranks) that hold one model together, and what they say to each other: gloo on CPU, NCCL on GPUs."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mmrag.errors import RankLost

JOIN_TIMEOUT_S = 120
IDLE_TIMEOUT_S = 24 * 3600
"""Ranks wait this long for the next step; a rank that died is noticed at once, by its closed connection."""


class Group:
    """The ranks of one model as one of them sees it. Every method is a collective: all ranks must call it in turn.

    `sum`, `concatenate` and `broadcast` raise RankLost when another rank is gone.
    """

    def __init__(self, rank: int, size: int, store: dist.Store, device: str = "cpu"):
        """Returns when all `size` ranks are there. A process can be in one group at a time.

        Raises RuntimeError, mostly torch.distributed.DistStoreError, when they do not all come within `JOIN_TIMEOUT_S`,
        or one that came does not connect to the others within as long.
        """
        self.rank, self.size = rank, size
        join_timeout = timedelta(seconds=JOIN_TIMEOUT_S)
        store.set(f"rank {rank}", "is here")
        store.wait([f"rank {other}" for other in range(size)], join_timeout)
        backend = "gloo" if torch.device(device).type == "cpu" else "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=join_timeout)
        # Only now: what the group starts with holds for its start, too, where nobody notices a rank that died.
        dist.set_timeout(timedelta(seconds=IDLE_TIMEOUT_S))

    def sum(self, part: Tensor) -> Tensor:
        """The sum of all ranks' tensors, in place."""
        with others_are_there():
            dist.all_reduce(part)
        return part

    def concatenate(self, part: Tensor) -> Tensor:
        """All ranks' tensors side by side along the last dimension, in the order of ranks."""
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with others_are_there():
            dist.all_gather(parts, part.contiguous())
        return torch.cat(parts, -1)

    def broadcast(self, message: Any = None) -> Any:
        """What rank 0 gave, on every rank; the others call it without an argument."""
        messages = [message]
        with others_are_there():
            dist.broadcast_object_list(messages, src=0, device=torch.device("cpu"))
        return messages[0]

    def leave(self) -> None:
        """Close the connections; the other ranks notice."""
        dist.destroy_process_group()


@contextmanager
def others_are_there() -> Iterator[None]:
    """Raises RankLost where what the ranks do together fails."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            f"a rank of the sharded decoder was lost, it is started anew; ask again in a moment ({error})"
        ) from error


def meeting_place(host: str) -> tuple[dist.Store, str]:
    """Rank 0's place to meet, on a free port of `host`, and its address for the other ranks.

    Ranks trust each other's messages: `host` must be reachable by them only, as on 127.0.0.1 or a private network.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.bind((host, 0))
    listener.listen()
    port = listener.getsockname()[1]
    _speak_at(host)
    timeout = timedelta(seconds=JOIN_TIMEOUT_S)
    # The store takes the socket over, and closes it.
    store = dist.TCPStore(
        host, port, is_master=True, wait_for_workers=False, timeout=timeout, master_listen_fd=listener.detach()
    )
    return store, f"{host}:{port}"


def meet_at(address: str) -> dist.Store:
    """The same place for rank 1 and those after it."""
    host, _, port = address.rpartition(":")
    _speak_at(host)
    return dist.TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=JOIN_TIMEOUT_S))


def _speak_at(host: str) -> None:
    # Else gloo takes the address that the machine's name stands for, which may be none, or open to others.
    if host.startswith("127."):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
