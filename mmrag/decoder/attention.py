"""T5's multi-head attention, over memories of its own and among sequences one after the other.

Shapes: B requests (or passages), T target tokens, S source tokens, H heads, D = d_kv, d = d_model.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrag.decoder.settings import DecoderModelConfig

MASKED = -1e9  # finite: a row that is masked everywhere stays a number


@dataclass(slots=True)
class CrossMemory:
    """Keys and values [B or 1, H, S, D] of one memory for one layer; `bias`, `weights` [B or 1, 1, 1, S].

    Where there is one memory for many queries [B, H, T, D], its keys are read once for all of them.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor
    weights: Tensor | None = None

    def attend(self, queries: Tensor, scale: float) -> Tensor:
        """Mixed values [B, H, T, D]."""
        if len(queries) == len(self.keys) and self.weights is None and has_kernel(queries):
            bias = self.bias.to(queries.dtype)
            return F.scaled_dot_product_attention(queries, self.keys, self.values, bias, scale=scale)
        return self.attend_and_show(queries, scale)[0]

    def attend_and_show(self, queries: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Mixed values [B, H, T, D] and the attention [B, H, T, S]."""
        num, _, length, _ = queries.shape
        if num == len(self.keys):
            return attend(queries, self.keys, self.values, self.bias, self.weights, scale)
        folded = queries.transpose(0, 1).flatten(1, 2)[None]
        mixed, attention = attend(folded, self.keys, self.values, self.bias, self.weights, scale)
        return tuple(x[0].unflatten(1, (num, length)).transpose(0, 1) for x in (mixed, attention))


@dataclass(slots=True)
class Run:
    """`num` sequences of `length` tokens, one after the other; `bias` [1 or num, H or 1, L or 1, L].

    `is_backwards`: the bias has its queries in reverse order; see `RelativePositionBias.backwards`.
    """

    num: int
    length: int
    bias: Tensor
    is_backwards: bool = False

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Mixed values [num, H, L, D] of sequences that attend to themselves."""
        if torch.is_grad_enabled():
            return attend(queries, keys, values, self.bias, None, scale)[0]
        queries = queries.flip(2) if self.is_backwards else queries
        mixed = F.scaled_dot_product_attention(queries, keys, values, self.bias.to(keys.dtype), scale=scale)
        return mixed.flip(2) if self.is_backwards else mixed


class Attention(nn.Module):
    """T5's multi-head attention: no biases and, with `scores: dot`, no scale. A rank of several has some heads only."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        inner = config.num_heads * config.d_kv
        self.num_heads, self.d_kv = config.num_heads, config.d_kv
        self.scale = config.d_kv**-0.5 if config.scores == "scaled_dot" else 1.0
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.o = nn.Linear(inner, config.d_model, bias=False)

    def split(self, x: Tensor) -> Tensor:
        """Heads apart: [B, T, H * D] to [B, H, T, D]."""
        return x.unflatten(-1, (self.num_heads, self.d_kv)).transpose(1, 2)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, S, D] of a memory [B, S, d]."""
        return self.split(self.k(memory)), self.split(self.v(memory))

    def forward(self, x: Tensor, memory: CrossMemory) -> Tensor:
        """Attended states [B, T, d]."""
        return self.o(memory.attend(self.split(self.q(x)), self.scale).transpose(1, 2).flatten(2))

    def among(self, x: Tensor, runs: list[Run]) -> Tensor:
        """States [T, d], each attending to those of its own sequence."""
        sizes = [run.num * run.length for run in runs]
        projected = [y[: sum(sizes)].split(sizes) for y in (self.q(x), self.k(x), self.v(x))]
        mixed = []
        for run, *parts in zip(runs, *projected, strict=True):
            queries, keys, values = (self.split(part.unflatten(0, (run.num, run.length))) for part in parts)
            mixed.append(run.attend(queries, keys, values, self.scale).transpose(1, 2).flatten(2).flatten(0, 1))
        return self.o(F.pad(torch.cat(mixed), (0, 0, 0, len(x) - sum(sizes))))


def has_kernel(queries: Tensor) -> bool:
    """Whether attention to memories goes through one kernel: on a GPU. A CPU's is not the same in any company."""
    return queries.is_cuda and not torch.is_grad_enabled()


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, weights: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Mixed values [B, H, T, D] and the attention [B, H, T, S].

    `weights` multiplies each key's share before normalisation: a key of weight 0 is as if it were not there.
    """
    scores = (queries @ keys.transpose(-1, -2)).float()
    scores = (scores if scale == 1.0 else scores * scale) + bias
    attention = scores.softmax(-1) if weights is None else weighted_softmax(scores, weights)
    return attention.to(values.dtype) @ values, attention


def weighted_softmax(scores: Tensor, weights: Tensor) -> Tensor:
    """Softmax over the last dimension, each exponential times its weight before they are normalised."""
    exponentials = (scores - scores.amax(-1, keepdim=True).detach()).exp() * weights
    return exponentials / exponentials.sum(-1, keepdim=True).clamp(min=1e-9)
