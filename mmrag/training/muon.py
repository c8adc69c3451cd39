"""Muon (Jordan et al. 2024): momentum whose update of a matrix is made orthogonal.

`torch.optim.Muon` computes this in bfloat16 even where a processor has to imitate it: with AVX2 alone that was three
quarters of each step of the fusion decoder. Its checkpoints load here.
"""

import torch
from torch import Tensor

from mmrag import bfloat16

MOMENTUM = 0.95
ADAMW_SIZE = 0.2
"""Of an AdamW update, the usual root mean square; with it, both take learning rates of one size ("Muon is Scalable for
LLM Training", Liu et al. 2025)."""
COEFFICIENTS, NUM_ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of the Newton-Schulz iteration of Jordan et al., which brings singular values to between 0.5 and 1.5, but for those
that begin too near to 0."""


class Muon(torch.optim.Optimizer):
    """For matrices [rows, columns]."""

    def __init__(self, matrices: list[Tensor], lr: float, weight_decay: float):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                mean = state["momentum_buffer"]
                mean.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(matrix.grad.lerp(mean, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * ADAMW_SIZE * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix to `matrix` [rows, columns] whose shorter side is orthonormal, of the same type."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16() if bfloat16.is_faster(matrix.device) else matrix.float()
    is_tall = len(x) > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if is_tall else x).to(matrix.dtype)
