"""The layers of a T5 (Raffel et al. 2020), and what fusion adds to them behind gates that start at zero.

Shapes: B requests (or passages), T target tokens, S source tokens, H heads, D = d_kv, d = d_model.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrag.decoder.attention import Attention, CrossMemory, Run
from mmrag.decoder.settings import DecoderModelConfig


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
class Sequences:
    """How states [T, d] are made up of sequences: in `runs`, each token having its `positions` [T] in its own.

    What is after the last run belongs to none. `sentences` [n]: the lengths of the sentences, which sum to T.
    """

    runs: list[Run]
    positions: Tensor | None = None
    sentences: Tensor | None = None


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


class SentencePooling(nn.Module):
    """x + what is made of the mean of the sentence: what its fact is about, at each of its words.

    A small model that has to gather this by attention learns it for the wordings it was trained on.
    """

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.norm = RMSNorm(config)
        self.up = nn.Linear(config.d_model, config.d_model, bias=False)
        self.down = nn.Linear(config.d_model, config.d_model, bias=False)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """States [T, d] of sentences of these `lengths` [n], one after the other."""
        # Unsafe is what saves a GPU from telling the host the sum of the lengths, which waits for all before it.
        means = torch.segment_reduce(self.norm(x).float(), "mean", lengths=lengths, initial=0.0, unsafe=True)
        # A multiple of four rows: fewer take another way through a matrix product, and round differently.
        padded = F.pad(means.to(x.dtype), (0, 0, 0, -len(means) % 4))
        of_sentence = self.down(F.relu(self.up(padded)))[: len(means)]
        return x + of_sentence.repeat_interleave(lengths, 0, output_size=len(x))


class EncoderLayer(nn.Module):
    """Convolution and the mean of the sentence, where there are, self-attention and feed-forward, each added to what
    it reads."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.convolution = CausalConvolution(config) if config.convolution_width else None
        self.sentence = SentencePooling(config) if config.sentence_pooling else None
        self.norm = RMSNorm(config)
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, sequences: Sequences) -> Tensor:
        """States [T, d] of sequences one after the other: all but attention is the same for every token."""
        if self.convolution is not None:
            x = self.convolution.within(x, sequences.positions)
        if self.sentence is not None:
            x = self.sentence(x, sequences.sentences)
        return self.feed_forward(x + self.attention.among(self.norm(x), sequences.runs))


class CrossAttention(nn.Module):
    """Attention to the evidence: T5's to the text, and with `dual_stream` a second one to the image memory."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.norm = RMSNorm(config)
        self.text = Attention(config)
        self.image = None
        if config.has_image_attention:
            self.image = Attention(config)
            self.join = nn.Linear(2 * config.d_model, config.d_model, bias=False)
            self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, text: CrossMemory, image: CrossMemory | None) -> Tensor:
        """States [B, T, d] after the evidence."""
        normed = self.norm(x)
        from_text = self.text(normed, text)
        if self.image is None or image is None:
            return x + from_text
        return x + from_text + self.gate * self.join(torch.cat([from_text, self.image(normed, image)], -1))


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
        """States [B, T, d] of new tokens x [B, T, d].

        `bias` [1 or B, H, T, past + T]; the cache grows by T.
        """
        if self.convolution is not None:
            x = self.convolution(x, cache)
        normed = self.norm(x)
        past = CrossMemory(*cache.extend(*self.attention.project(normed)), bias)
        x = x + self.attention(normed, past)
        return self.feed_forward(self.cross(x, text, image))
