"""The loss of the image tower.

Every view of a thing is asked to find the other views among all pictures of the batch (SupCon: Khosla et al. 2020),
its own prototype among all things (proxies: Movshovitz-Attias et al. 2017), and, where texts are given, its text
among all texts, whose encoder stays as it is (LiT: Zhai et al. 2021).
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ContrastiveLoss(nn.Module):
    """Views find each other, their thing's prototype, and their thing's text.

    texts: for each thing, embeddings of what may be said of it, float32 [m, dimension]; none where m is 0.
    """

    def __init__(
        self,
        num_things: int,
        dimension: int,
        texts: list[Tensor] | None,
        scale: float,
        proxy_weight: float,
        text_weight: float,
    ):
        super().__init__()
        self.scale, self.weights = scale, {"views": 1.0, "proxies": proxy_weight, "texts": text_weight}
        self.prototypes = nn.Parameter(torch.randn(num_things, dimension) * 0.05)
        self.text_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.texts = texts if text_weight else None

    def forward(self, embeddings: Tensor, things: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        parts = {"views": _between_views(embeddings, things, self.scale)}
        prototypes = F.normalize(self.prototypes, dim=1)
        parts["proxies"] = F.cross_entropy(self.scale * embeddings @ prototypes.T, things)
        if self.texts is not None:
            parts["texts"] = self._to_texts(self.texts, embeddings, things, random)
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return parts | {"loss": total}

    def _to_texts(
        self, texts: list[Tensor], embeddings: Tensor, things: Tensor, random: np.random.Generator
    ) -> Tensor:
        described = torch.tensor([len(said) for said in texts], device=things.device) > 0
        column = described.cumsum(0) - 1
        chosen = torch.stack([said[random.integers(len(said))] for said in texts if len(said)]).to(things.device)
        kept = described[things]
        logits = self.text_scale.exp() * embeddings[kept] @ chosen.T
        return F.cross_entropy(logits, column[things[kept]])


def _between_views(embeddings: Tensor, things: Tensor, scale: float) -> Tensor:
    itself = torch.eye(len(things), dtype=torch.bool, device=things.device)
    logits = (scale * embeddings @ embeddings.T).masked_fill(itself, -torch.inf)
    positive = (things[:, None] == things[None, :]) & ~itself
    log_shares = F.log_softmax(logits, dim=1).masked_fill(~positive, 0)
    return -(log_shares.sum(1) / positive.sum(1)).mean()
