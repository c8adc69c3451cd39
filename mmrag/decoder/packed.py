"""Matrices laid out once for the processor's widest instructions.

On a CPU with AVX-512, oneDNN's float32 products are about twice as fast as those PyTorch calls by default, and with
the weights reordered beforehand a single row costs no more than reading them. A row's result does not depend on how
many other rows there are: what makes an answer the same in any company.
"""

import re

import torch
from torch import Tensor, nn

from mmrag import onednn
from mmrag.decoder.model import FusionModel

_ROWS = 16
"""For how many rows the layout is chosen; it is right for any number."""

_SMALL = 2**16
_SEES_WHOLE_SOURCES = r"^encoder\.|^joint\.|cross\.(text|image)\.[kv]$"
_READ = "pointer.key"
"""Whose weights are read, and so not packed."""


class PackedLinear(nn.Module):
    """In place of an nn.Linear for inference in float32. The weights can be read no more."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.out_features, self.bias = linear.out_features, linear.bias
        self.packed = onednn.packed(linear.weight.detach(), _ROWS)
        self.group = getattr(linear, "group", None)

    def forward(self, x: Tensor) -> Tensor:
        y = onednn.product(x, self.packed, self.bias)
        return y if self.group is None else self.group.sum(y)


def pack(model: FusionModel) -> None:
    """Pack the linear layers of `model`, one after the other, so that little more memory is used.

    Small ones that see few rows at a time stay as they are: calling oneDNN costs more than the product.
    """
    if model.head is None:
        model.head = nn.Linear(model.embedding.embedding_dim, model.embedding.num_embeddings, bias=False, device="meta")
        model.head.weight = model.embedding.weight
    # A list of the parents only: one of the linear layers, too, would keep all their weights until the end.
    parents = [(name, module) for name, module in model.named_modules() if not isinstance(module, nn.Linear)]
    for parent_name, parent in parents:
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and pays(f"{parent_name}.{name}", child):
                setattr(parent, name, PackedLinear(child))


def pays(name: str, linear: nn.Linear) -> bool:
    """Whether the product is worth the call."""
    if name == _READ:
        return False
    return linear.weight.numel() >= _SMALL or re.search(_SEES_WHOLE_SOURCES, name) is not None


def can_pack(device: str, dtype: torch.dtype) -> bool:
    """Whether this PyTorch can, and gains from it."""
    return dtype == torch.float32 and onednn.is_there(device)
