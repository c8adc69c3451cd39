"""From the decoder's state to an answer: the vocabulary, a pointer into the passages, and trained labels.

The pointer follows See et al. 2017 (get to the point): p = (1 - c) * vocabulary + c * copy. It is told where the
last tokens written also stand in the source, so that going on with a copy need not be learned from scratch.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrag.decoder.attention import MASKED
from mmrag.decoder.settings import DecoderModelConfig


@dataclass(slots=True)
class Source:
    """The tokens a pointer may copy: ids [B, S], where copying is allowed [B, S], and their states [B, S, d]."""

    ids: Tensor
    copyable: Tensor
    states: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """All three, in the order of the fields."""
        return self.ids, self.copyable, self.states


@dataclass(slots=True)
class Copying:
    """Where the pointer looks [B, T, S] (sums to 1) and how much of the next token is copied [B, T]."""

    attention: Tensor
    share: Tensor


class Pointer(nn.Module):
    """Where to copy the next token from, and how far to copy it at all; `gate` at 0: not at all."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.query = nn.Linear(config.d_model, config.d_model, bias=False)
        self.key = nn.Linear(config.d_model, config.d_model, bias=False)
        self.share = nn.Linear(2 * config.d_model, 1)
        self.follow = nn.Parameter(torch.full((config.copy_context,), 2.0))
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor, last_ids: Tensor, source: Source) -> Copying:
        """`hidden` [B, T, d]; `last_ids` [B, T, copy_context]: at each step the tokens just written, last first."""
        before = [tokens[:, None] for tokens in tokens_before(source.ids, last_ids.shape[-1])]
        bonus = self.bonus([tokens[..., None] for tokens in last_ids.unbind(-1)], before)
        attention, context = self.look(self.queries(hidden), bonus, source)
        # Where there is nothing to copy, nothing is.
        return Copying(attention, self.share_of(hidden, context) * source.copyable.any(1, keepdim=True))

    def queries(self, hidden: Tensor) -> Tensor:
        """What is compared with the source's states [B, T, d]: instead of every state's key, as q . (K s) = (q K) . s,
        so that only the states need be kept and read."""
        return self.query(hidden) @ self.key.weight

    def look(self, queries: Tensor, bonus: Tensor, source: Source) -> tuple[Tensor, Tensor]:
        """Where to copy from [B, T, S], and the mean of the states there [B, T, d]."""
        scores = (queries @ source.states.transpose(1, 2)).float() * queries.shape[-1] ** -0.5 + bonus
        attention = scores.masked_fill_(~source.copyable[:, None], MASKED).softmax(-1)
        return attention, attention.to(source.states.dtype) @ source.states

    def bonus(self, last: list[Tensor], before: list[Tensor]) -> Tensor:
        """What a source token is preferred by where the one, two ... tokens `before` it are those `last` written."""
        follow, bonus, same = self.follow.float(), None, None
        for i, (written, token) in enumerate(zip(last, before, strict=True)):
            equal = written == token
            same = equal if same is None else same & equal
            bonus = same * follow[i] if bonus is None else bonus + same * follow[i]
        return bonus

    def share_of(self, hidden: Tensor, context: Tensor) -> Tensor:
        """How much of the next token would be copied [B, T], were there something to copy."""
        share = torch.sigmoid(self.share(torch.cat([hidden, context], -1)).float()).squeeze(-1)
        return share * self.gate.clamp(0, 1)


def tokens_before(ids: Tensor, num: int) -> list[Tensor]:
    """The tokens one, two ... `num` places before those of `ids` [B, S]; -1 before the beginning."""
    length, padded = ids.shape[1], F.pad(ids, (num, 0), value=-1)
    return [padded[:, num - 1 - i : num - 1 - i + length] for i in range(num)]


def copied_probabilities(copying: Copying, source_ids: Tensor, targets: Tensor) -> Tensor:
    """What the pointer gives to each target token [B, T]: its attention on the source tokens equal to it."""
    return (copying.attention * (source_ids[:, None] == targets[..., None])).sum(-1)


class LabelHead(nn.Module):
    """Scores [B, labels] of the labels the model was trained on, from the first fused state [B, d]."""

    def __init__(self, config: DecoderModelConfig):
        super().__init__()
        self.output = nn.Linear(config.d_model, len(config.labels))

    def forward(self, state: Tensor) -> Tensor:
        return self.output(state)
