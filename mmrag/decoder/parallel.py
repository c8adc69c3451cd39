"""Tensor parallelism: one model over several processes (ranks), each with its share of the matrices.

After Shoeybi et al. 2019 (Megatron-LM). The first matrix of a block is cut by columns, so that each rank computes its
own heads or features without a word to the others; the second by rows, and the ranks' results are summed. So a
sublayer costs one all-reduce. `PLAN` says what is cut how; what it does not name, each rank has whole:

- norms, convolutions, gates: a few numbers;
- sentence pooling: there are few sentences;
- `cross.join` of dual-stream fusion, the pointer and the evidence's projections: small beside the rest, and they work
  on whole states, which every rank has after the all-reduce; cutting them would add a message to each step;
- the trained labels, which are few.
"""

import re
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mmrag.decoder.attention import Attention
from mmrag.decoder.group import Group
from mmrag.decoder.model import FusionModel
from mmrag.decoder.settings import DecoderModelConfig
from mmrag.errors import ConfigurationError

Style = Literal["column", "row", "vocabulary"]

PLAN: dict[str, Style] = {
    r"(.+\.)?(attention|cross\.text|cross\.image)\.[qkv]": "column",
    r"(.+\.)?(attention|cross\.text|cross\.image)\.o": "row",
    r"(.+\.)?feed_forward\.(up|gate)": "column",
    r"(.+\.)?feed_forward\.down": "row",
    r"(encoder|decoder)_bias\.table": "row",  # a bias for each head: the heads are its second dimension
    r"embedding|head": "vocabulary",
}


class RowLinear(nn.Linear):
    """Takes this rank's features of the input; the ranks' outputs are summed."""

    def __init__(self, num_inputs: int, num_outputs: int, group: Group):
        super().__init__(num_inputs, num_outputs, bias=False)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """[..., outputs], the same on every rank, of this rank's part of the input [..., inputs]."""
        return self.group.sum(super().forward(x))


class VocabularyEmbedding(nn.Embedding):
    """This rank's tokens; those of other ranks are zeros here, and come with the sum."""

    def __init__(self, num_tokens: int, d_model: int, group: Group):
        super().__init__(num_tokens, d_model)
        self.group = group

    def forward(self, ids: Tensor) -> Tensor:
        """[..., d], the same on every rank, of token ids [...]."""
        own = ids - self.group.rank * self.num_embeddings
        is_here = (own >= 0) & (own < self.num_embeddings)
        states = super().forward(own.clamp(0, self.num_embeddings - 1))
        return self.group.sum(states * is_here[..., None])


def check_divisible(config: DecoderModelConfig, size: int) -> None:
    """Raises ConfigurationError where `size` ranks cannot have equal shares."""
    possible = [n for n in range(1, config.num_heads + 1) if config.num_heads % n == 0 and config.d_ff % n == 0]
    if size not in possible:
        raise ConfigurationError(
            f"tensor_parallel_size {size} does not divide this decoder's {config.num_heads} heads and its "
            f"feed-forward of {config.d_ff}: choose one of {', '.join(map(str, possible))}"
        )


def shard(model: FusionModel, group: Group) -> FusionModel:
    """Replace what `PLAN` names by this rank's share of it, with weights yet to be loaded.

    Raises ConfigurationError where the heads or the feed-forward cannot be divided.
    """
    check_divisible(model.config, group.size)
    for name, module in list(model.named_modules()):
        if style := style_of(name):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, share_of(module, style, group))
        elif isinstance(module, Attention):
            module.num_heads //= group.size
    model.group = group
    return model


def style_of(module_name: str) -> Style | None:
    """How a module is cut; None where every rank has the whole."""
    return next((style for pattern, style in PLAN.items() if re.fullmatch(pattern, module_name)), None)


def share_of(module: nn.Module, style: Style, group: Group) -> nn.Module:
    """A rank's module in place of a whole one, on the same device, with the weights not set."""
    rows, columns = module.weight.shape
    with module.weight.device:
        if style == "vocabulary":
            num_tokens = -(-rows // group.size)
            if isinstance(module, nn.Embedding):
                return VocabularyEmbedding(num_tokens, columns, group)
            return nn.Linear(columns, num_tokens, bias=False)
        if style == "column":
            return nn.Linear(columns, rows // group.size, bias=False)
        if isinstance(module, nn.Embedding):
            return nn.Embedding(rows, columns // group.size)
        return RowLinear(columns // group.size, rows, group)


def own_part(parameter_name: str, shape: Sequence[int], group: Group) -> tuple[slice, ...]:
    """Which part of a whole parameter of `shape` a rank holds; the last of a vocabulary may be short."""
    style = style_of(parameter_name.rpartition(".")[0])
    if style is None:
        return tuple(slice(0, length) for length in shape)
    dimension = 1 if style == "row" else 0
    length = -(-shape[dimension] // group.size)
    first = min(group.rank * length, shape[dimension])
    part = [slice(0, whole) for whole in shape]
    part[dimension] = slice(first, min(first + length, shape[dimension]))
    return tuple(part)


def padded(part: Tensor, shape: Sequence[int]) -> Tensor:
    """`part` with rows of zeros below, where a vocabulary does not fill the last rank's share."""
    missing = shape[0] - part.shape[0] if part.ndim else 0
    return F.pad(part, (0, 0) * (part.ndim - 1) + (0, missing)) if missing > 0 else part
