"""Choosing the next token: greedy, or drawn with a temperature among the likeliest."""

import random

import torch
from torch import Tensor

from mmrag.decoder.whole_words import WholeWords
from mmrag.types import Sampling

MIN_TEMPERATURE = 1e-3
"""Below it the likeliest is taken: scores divided by so little are too large for float32."""


class Sampler:
    """Chooses for one sequence, among what does not cut its `words`."""

    def __init__(self, sampling: Sampling, words: WholeWords = WholeWords()):
        self.sampling, self.words = sampling, words
        self._random = random.Random(sampling.seed)

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.sampling.temperature < MIN_TEMPERATURE

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


def next_tokens(scores: Tensor, last_ids: list[int], samplers: list[Sampler], are_logarithms: bool) -> list[int]:
    """The next token of each sequence, after its last one, by its row of scores [R or more, V]: logits, or else
    probabilities."""
    tokens = scores[: len(samplers)].argmax(-1).tolist()
    for row, (sampler, last) in enumerate(zip(samplers, last_ids, strict=True)):
        if sampler.is_greedy and sampler.words.allow(tokens[row], last):
            continue
        fitting = sampler.words.fitting(scores[row], last)
        if sampler.is_greedy:
            tokens[row] = int(fitting.argmax())
        else:
            tokens[row] = sampler.draw(fitting if are_logarithms else fitting.clamp(min=1e-30).log())
    return tokens
