"""Choosing the next token: greedy, or drawn with a temperature among the likeliest."""

import random

import torch
from torch import Tensor

from mmrag.types import Sampling


class Sampler:
    """Draws for one sequence."""

    def __init__(self, sampling: Sampling):
        self.sampling = sampling
        self._random = random.Random(sampling.seed)

    @property
    def is_greedy(self) -> bool:
        return self.sampling.temperature == 0

    def draw(self, scores: Tensor) -> int:
        """A token by log-probabilities [V], not necessarily normalised."""
        ordered, ids = torch.sort(scores.float() / self.sampling.temperature, descending=True, stable=True)
        if self.sampling.top_k:
            ordered = ordered[: self.sampling.top_k]
        cumulated = ordered.softmax(0).cumsum(0)
        # The fewest with top_p together: those before the first at which it is reached, and that one.
        num = int((cumulated < self.sampling.top_p).sum()) + 1
        cumulated = cumulated[:num]
        drawn = self._random.random() * float(cumulated[-1])
        return int(ids[min(int((cumulated <= drawn).sum()), len(cumulated) - 1)])


def next_tokens(scores: Tensor, samplers: list[Sampler], are_logarithms: bool) -> list[int]:
    """The next token of each sequence by its row of scores [R or more, V]: logits, or else probabilities."""
    tokens = scores[: len(samplers)].argmax(-1).tolist()
    for row, sampler in enumerate(samplers):
        if not sampler.is_greedy:
            tokens[row] = sampler.draw(scores[row] if are_logarithms else scores[row].clamp(min=1e-30).log())
    return tokens
