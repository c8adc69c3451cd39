"""Batches of examples of like length and like cost."""

import random
from collections.abc import Iterator

from mmrag.batching import CHARS_PER_TOKEN
from mmrag.training.data import Example
from mmrag.training.decoder_config import DecoderTrainingConfig

BATCHES_IN_POOL = 12
"""So many batches' worth of examples are sorted by length at a time."""


def batches(examples: Iterator[Example], config: DecoderTrainingConfig) -> Iterator[list[Example]]:
    """Batches without end, each of examples of like length, so that little is padding.

    Every process gets those of a length at the same time, and all cost about the same: none waits for another.
    """
    rng = random.Random(0)
    while True:
        cut = cut_by_cost(sorted(drawn_together(examples, config), key=num_source_tokens))
        rng.shuffle(cut)
        yield from filter(None, cut)


def drawn_together(examples: Iterator[Example], config: DecoderTrainingConfig) -> list[Example]:
    """The examples of the next batches, at least one."""
    pool, num_tokens = [], 0
    while len(pool) < config.max_batch * BATCHES_IN_POOL and num_tokens < config.max_batch_tokens * BATCHES_IN_POOL:
        pool.append(next(examples))
        num_tokens += num_source_tokens(pool[-1])
    return pool


def cut_by_cost(pool: list[Example]) -> list[list[Example]]:
    """`BATCHES_IN_POOL` parts, one after the other, of about the same number of tokens."""
    costs = [num_source_tokens(example) for example in pool]
    total = sum(costs)
    parts: list[list[Example]] = [[] for _ in range(BATCHES_IN_POOL)]
    before = 0
    for example, cost in zip(pool, costs, strict=True):
        parts[int(BATCHES_IN_POOL * (before + cost / 2) / total)].append(example)
        before += cost
    return parts


def num_source_tokens(example: Example) -> int:
    """About how many tokens the passages have, the question in front of each."""
    query = len(example.request.text or "") // CHARS_PER_TOKEN + 5
    return query + sum(query + len(passage.text) // CHARS_PER_TOKEN for passage in example.request.passages)
