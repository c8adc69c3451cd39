"""oneDNN's own matrix products, of weights laid out beforehand. PyTorch has no public way to them.

Measured on Zen 5: in float32 about twice as fast as what PyTorch calls; see `mmrag.encoders.packed_bert` and
`mmrag.decoder.packed`.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Then = Literal["none", "gelu"]
"""What is done with a product before it is written: nothing, or the exact GELU (not tanh)."""


def is_there(device: str) -> bool:
    """Whether this PyTorch has them; never on a GPU."""
    on_cpu = torch.device(device).type == "cpu" and torch.backends.mkldnn.is_available()
    return on_cpu and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def packed(weight: Tensor, num_rows: int) -> Tensor:
    """`weight` [outputs, inputs] as `product` takes it; laid out for so many rows, and right for any number."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, num_rows)


def filled(num_rows: int) -> int:
    """`num_rows`, or up to 31 more: few numbers of rows come of it.

    oneDNN plans a product for each number of rows that it meets, which takes up to a millisecond, and keeps a thousand
    plans: texts and evidence of any length would soon all be planned anew.
    """
    apart = 1 if num_rows <= 32 else 8 if num_rows <= 128 else 32
    return -(-num_rows // apart) * apart


def product(x: Tensor, weight: Tensor, bias: Tensor | None, then: Then = "none") -> Tensor:
    """`x` [..., inputs] times a packed weight, plus the bias [outputs]: [..., outputs]. All of one type.

    Rows are filled up to as many as `filled` says, which callers can do themselves once for several products.
    """
    num_rows, algorithm = x.numel() // x.shape[-1], "none" if then == "gelu" else ""
    if missing := filled(num_rows) - num_rows:
        rows = product(F.pad(x.flatten(0, -2), (0, 0, 0, missing)), weight, bias, then)
        return rows[:num_rows].unflatten(0, x.shape[:-1])
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], algorithm)
