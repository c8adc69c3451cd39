"""Training on all cores: one process each, the same model, other examples, gradients averaged (data parallelism).

Small models leave most of a second thread idle; a second process does not wait for the first.
"""

import socket
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist

from mmrag.cores import num_cores


def run_on_all(num: int, work: Callable[[int], None]) -> None:
    """Call `work(rank)` in `num` processes, rank 0 in this one.

    Raises what rank 0 raises, or RuntimeError where another rank failed; whose traceback stands on stderr.
    With 1 it is a plain call. `work` must be picklable, and finds its processes joined to one group.
    """
    if num == 1:
        return work(0)
    address = f"tcp://127.0.0.1:{_free_port()}"
    context = torch.multiprocessing.get_context("spawn")
    others = [context.Process(target=_joined, args=(rank, num, address, work), daemon=True) for rank in range(1, num)]
    for process in others:
        process.start()
    _joined(0, num, address, work)
    for process in others:
        process.join()
    if failed := [rank for rank, process in enumerate(others, start=1) if process.exitcode != 0]:
        raise RuntimeError(f"training process {failed} failed; see its traceback above")


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; does nothing in one process."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    given = [p for p in parameters if p.requires_grad]
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in given])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, part in zip(given, flat.split([p.numel() for p in given]), strict=True):
        p.grad = part.view_as(p)


def is_first() -> bool:
    """Whether this process logs, validates and saves."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def _joined(rank: int, num: int, address: str, work: Callable[[int], None]) -> None:
    torch.set_num_threads(max(1, num_cores() // num))
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=num)
    try:
        work(rank)
    finally:
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
