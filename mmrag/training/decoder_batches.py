"""Batches of examples of like length."""

import random
from collections.abc import Iterator

from mmrag.training.data import Example
from mmrag.training.decoder_config import DecoderTrainingConfig

CHARS_PER_TOKEN = 4
"""A rough measure is enough to cut batches by."""

BATCHES_IN_POOL = 8
"""So many batches' worth of examples are sorted by length at a time, and at least as many batches wait to be taken."""


def batches(examples: Iterator[Example], config: DecoderTrainingConfig) -> Iterator[list[Example]]:
    """Batches without end, each of examples of like length, so that little is padding.

    From those that wait, every process takes one of about the same length at a time: none is waited for long.
    """
    rng, waiting = random.Random(0), []
    while True:
        if len(waiting) < BATCHES_IN_POOL:
            pool = sorted((next(examples) for _ in range(config.max_batch * BATCHES_IN_POOL)), key=num_source_tokens)
            waiting = sorted(waiting + cut_by_limits(pool, config), key=length_of)
        yield waiting.pop(int(rng.random() * len(waiting)))


def cut_by_limits(pool: list[Example], config: DecoderTrainingConfig) -> list[list[Example]]:
    """The examples of a sorted pool, each batch as large as it may be; one that is too large alone stands alone."""
    found: list[list[Example]] = [[]]
    for example in pool:
        size = len(found[-1])
        if size == config.max_batch or (size and (size + 1) * num_source_tokens(example) > config.max_batch_tokens):
            found.append([])
        found[-1].append(example)
    return found


def length_of(batch: list[Example]) -> int:
    return num_source_tokens(batch[-1])


def num_source_tokens(example: Example) -> int:
    """About how many tokens the passages have, the question in front of each."""
    query = len(example.request.text or "") // CHARS_PER_TOKEN + 5
    return query + sum(query + len(passage.text) // CHARS_PER_TOKEN for passage in example.request.passages)
