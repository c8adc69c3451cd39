"""The layers of a T5 (Raffel et al. 2020), and what fusion adds to them behind gates that start at zero.

Shapes: B requests (or passages), T target tokens, S source tokens, H heads, D = d_kv, d = d_model.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrag.decoder.settings import DecoderModelConfig

MASKED = -1e9  # finite: a row that is masked everywhere stays a number


@dataclass(slots=True)
class LayerCache:
    """What one decoder layer remembers of the tokens so far: keys and values [B, H, T, D], last inputs [B, k-1, d]."""

    keys: Tensor | None = None
    values: Tensor | None = None
    tail: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, the new ones last."""
        if self.keys is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values

    def preceded(self, inputs: Tensor, num_past: int) -> Tensor:
        """Inputs [B, num_past + T, d]: the new ones [B, T, d] after the last `num_past` before them."""
        past = inputs.new_zeros(len(inputs), num_past, inputs.shape[2]) if self.tail is None else self.tail
        padded = torch.cat([past, inputs], 1)
        self.tail = padded[:, inputs.shape[1] :]
        return padded


@dataclass(slots=True)
class CrossMemory:
    """Keys and values [B or 1, H, S, D] of one memory for one layer; `bias`, `weights` [B or 1, 1, 1, S].

    Where there is one memory for many queries [B, H, T, D], its keys are read once for all of them.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor
    weights: Tensor | None = None

    def attend(self, queries: Tensor, scale: float) -> tuple[Tensor, Tensor]:
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


@dataclass(slots=True)
class Sequences:
    """How states [T, d] are made up of sequences: in `runs`, each token having its `positions` [T] in its own.

    What is after the last run belongs to none.
    """

    runs: list[Run]
    positions: Tensor


class RMSNorm(nn.Module):
    """T5's norm: states divided by their root mean square, in float32, without centring (Zhang & Sennrich 2019)."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.d_model))
        self.epsilon = config.norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled() and x.dtype == self.weight.dtype:
            return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)  # the same in one pass
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (x * scale).to(x.dtype) * self.weight


class RelativePositionBias(nn.Module):
    """T5's bias for the distance between two tokens: exact up to a quarter or half of the buckets, then logarithmic."""

    def __init__(self, config: DecoderModelConfig, bidirectional: bool):
        super().__init__()
        self.table = nn.Embedding(config.num_buckets, config.num_heads)
        self.bidirectional, self.max_distance = bidirectional, config.max_distance

    def forward(self, num_queries: int, num_keys: int, start: int = 0) -> Tensor:
        """Bias [1, H, num_queries, num_keys]; `start` is the position of the first query."""
        return self.backwards(num_queries, num_keys, start).flip(2).contiguous()

    def backwards(self, num_queries: int, num_keys: int, start: int = 0) -> Tensor:
        """The same with the last query first: a view of one line of numbers, which stays in the fastest cache.

        Only the distance counts, so each row of the square is the one above it, moved on by one.
        """
        first = -(start + num_queries - 1)
        distances = torch.arange(first, first + num_queries + num_keys - 1, device=self.table.weight.device)
        return self.table(self.buckets(distances)).T.contiguous().unfold(1, num_keys, 1)[None]

    def buckets(self, distance: Tensor) -> Tensor:
        """The rows of the table, int64, for distances from query to key, int64: negative before it."""
        num_buckets, offset = self.table.num_embeddings, torch.zeros_like(distance)
        if self.bidirectional:
            num_buckets //= 2
            offset = (distance > 0).long() * num_buckets
            distance = distance.abs()
        else:
            distance = -distance.clamp(max=0)
        num_exact = num_buckets // 2
        ratio = torch.log(distance.float().clamp(min=1) / num_exact) / math.log(self.max_distance / num_exact)
        far = (num_exact + (ratio * (num_buckets - num_exact)).long()).clamp(max=num_buckets - 1)
        return offset + torch.where(distance < num_exact, distance, far)


class CausalConvolution(nn.Module):
    """x + a depthwise convolution over the last `width` tokens: what lets a small model copy from its passages."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.norm = RMSNorm(config)
        self.taps = nn.Parameter(torch.zeros(config.convolution_width, config.d_model))

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """States [B, T, d], given new ones [B, T, d] after those that the cache remembers."""
        length = x.shape[1]
        padded = (cache or LayerCache()).preceded(self.norm(x), len(self.taps) - 1)
        return x + sum(padded[:, i : i + length] * tap for i, tap in enumerate(self.taps))

    def within(self, x: Tensor, positions: Tensor) -> Tensor:
        """The same over states [T, d] of many sequences, each of which begins where its `positions` [T] are 0."""
        normed = self.norm(x)
        x = x + normed * self.taps[-1]
        for distance in range(1, len(self.taps)):
            before = F.pad(normed[:-distance], (0, 0, distance, 0)) * (positions >= distance)[:, None]
            x = x + before * self.taps[-1 - distance]
        return x


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

    def forward(self, x: Tensor, memory: CrossMemory) -> tuple[Tensor, Tensor]:
        """Attended states [B, T, d] and the attention [B, H, T, S]."""
        mixed, attention = memory.attend(self.split(self.q(x)), self.scale)
        return self.o(mixed.transpose(1, 2).flatten(2)), attention

    def among(self, x: Tensor, runs: list[Run]) -> Tensor:
        """States [T, d], each attending to those of its own sequence."""
        sizes = [run.num * run.length for run in runs]
        projected = [y[: sum(sizes)].split(sizes) for y in (self.q(x), self.k(x), self.v(x))]
        mixed = []
        for run, *parts in zip(runs, *projected, strict=True):
            queries, keys, values = (self.split(part.unflatten(0, (run.num, run.length))) for part in parts)
            mixed.append(run.attend(queries, keys, values, self.scale).transpose(1, 2).flatten(2).flatten(0, 1))
        return self.o(F.pad(torch.cat(mixed), (0, 0, 0, len(x) - sum(sizes))))


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


class FeedForward(nn.Module):
    """x + T5's feed-forward: ReLU (v1.0), or gated GELU (v1.1, flan)."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.norm = RMSNorm(config)
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.gate = nn.Linear(config.d_model, config.d_ff, bias=False) if config.gated else None
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        if self.gate is None:
            return x + self.down(F.relu(self.up(normed)))
        return x + self.down(F.gelu(self.gate(normed), approximate="tanh") * self.up(normed))


class EncoderLayer(nn.Module):
    """Convolution, where there is one, self-attention and feed-forward, each added to what it reads."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.convolution = CausalConvolution(config) if config.convolution_width else None
        self.norm = RMSNorm(config)
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, sequences: Sequences) -> Tensor:
        """States [T, d] of sequences one after the other: all but attention is the same for every token."""
        if self.convolution is not None:
            x = self.convolution.within(x, sequences.positions)
        return self.feed_forward(x + self.attention.among(self.norm(x), sequences.runs))


class CrossAttention(nn.Module):
    """Attention to the evidence: T5's to the text, and with `dual_stream` a second one to the image memory."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.norm = RMSNorm(config)
        self.text = Attention(config)
        self.image = None
        if config.evidence and config.fusion == "dual_stream":
            self.image = Attention(config)
            self.join = nn.Linear(2 * config.d_model, config.d_model, bias=False)
            self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, text: CrossMemory, image: CrossMemory | None) -> tuple[Tensor, Tensor | None]:
        """States after the evidence, and the attention [B, H, T, ...] that saw the image memory, if any did."""
        normed = self.norm(x)
        from_text, attention = self.text(normed, text)
        if self.image is None or image is None:
            return x + from_text, attention
        from_image, attention = self.image(normed, image)
        return x + from_text + self.gate * self.join(torch.cat([from_text, from_image], -1)), attention


class DecoderLayer(nn.Module):
    """Convolution, where there is one, self-attention, attention to the evidence and feed-forward."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.convolution = CausalConvolution(config) if config.convolution_width else None
        self.norm = RMSNorm(config)
        self.attention = Attention(config)
        self.cross = CrossAttention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, bias: Tensor, text: CrossMemory, image: CrossMemory | None, cache: LayerCache):
        """States [B, T, d] of new tokens x [B, T, d], and the attention of `CrossAttention`.

        `bias` [1 or B, H, T, past + T]; the cache grows by T.
        """
        if self.convolution is not None:
            x = self.convolution(x, cache)
        normed = self.norm(x)
        x = x + self.attention(normed, CrossMemory(*cache.extend(*self.attention.project(normed)), bias))[0]
        x, attention = self.cross(x, text, image)
        return self.feed_forward(x), attention
