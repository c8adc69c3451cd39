"""Work for several processes: each fits its own number, and together they fit the mean."""

from pathlib import Path

import torch

from mmrag.training.processes import average_gradients, is_first


def fit(folder: Path, rank: int) -> None:
    """Two parameters, of which one has a gradient in the first process only."""
    shared, of_first = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    for _ in range(100):
        loss = (shared - rank).pow(2).sum() + ((of_first - 1).pow(2).sum() if rank == 0 else 0.0)
        shared.grad = of_first.grad = None
        loss.backward()
        average_gradients([shared, of_first])
        with torch.no_grad():
            shared -= 0.1 * shared.grad
            of_first -= 0.1 * of_first.grad
    torch.save({"values": [shared.item(), of_first.item()], "is_first": is_first()}, folder / f"{rank}.pt")


def fail(rank: int) -> None:
    raise ValueError(f"rank {rank}")


def fail_elsewhere(rank: int) -> None:
    if rank:
        raise ValueError(f"rank {rank} has had enough")
