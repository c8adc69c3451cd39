"""Muon (Jordan et al. 2024): momentum whose update of a matrix is made orthogonal.

`torch.optim.Muon` always makes it so in bfloat16, which takes 20 times as long as in float32 where a processor has to
imitate it: three quarters of a training step.
"""

import torch
from torch import Tensor

from mmrag import bfloat16

MOMENTUM = 0.95
COEFFICIENTS, NUM_ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of the Newton-Schulz iteration: its singular values end between 0.7 and 1.2, which serves as well as 1."""


class Muon(torch.optim.Optimizer):
    """For matrices [rows, columns]; its updates are as large as AdamW's would be, so both share a learning rate."""

    def __init__(self, matrices: list[Tensor], lr: float, weight_decay: float):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                mean = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                mean.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(matrix.grad.lerp(mean, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix to `matrix` [rows, columns] whose shorter side is orthonormal."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if bfloat16.is_faster(matrix.device) else matrix.float()
    is_tall = len(x) > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if is_tall else x).to(matrix.dtype)
