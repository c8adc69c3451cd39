"""The optimizer of the fusion decoder: Muon for the matrices between its layers, AdamW for everything else.

Muon makes the update of a matrix orthogonal, so that directions with small gradients learn, too.
"""

import torch

from mmrag.training.muon import Muon

SMALLEST_MATRIX = 32
MUON_RATE_SHARE, MUON_WEIGHT_DECAY = 2.0, 0.1


class Optimizer:
    """Both as one. `share` scales the learning rate of every group, as in a schedule."""

    def __init__(self, model: torch.nn.Module, learning_rate: float, weight_decay: float):
        matrices, decayed, others = sorted_parameters(model)
        self.learning_rate = learning_rate
        self.muon = Muon(matrices, learning_rate, MUON_WEIGHT_DECAY)
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))

    def step(self, share: float) -> None:
        for optimizer, rate_share in ((self.muon, MUON_RATE_SHARE), (self.adamw, 1.0)):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * rate_share * share
            optimizer.step()

    def zero_grad(self) -> None:
        self.muon.zero_grad(), self.adamw.zero_grad()

    def state_dict(self) -> dict:
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])


def sorted_parameters(model: torch.nn.Module) -> tuple[list, list, list]:
    """Matrices for Muon; smaller ones, which decay; embeddings, scales and biases, which do not."""
    tables = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and p not in tables]
    matrices = [p for p in decayed if is_matrix(p)]
    return matrices, [p for p in decayed if not is_matrix(p)], [p for p in trained if p.ndim < 2 or p in tables]


def is_matrix(parameter: torch.nn.Parameter) -> bool:
    return parameter.ndim == 2 and min(parameter.shape) >= SMALLEST_MATRIX
