"""Batches of examples of like length."""

import random
from collections.abc import Iterator

from mmrag.batching import CHARS_PER_TOKEN
from mmrag.training.data import Example
from mmrag.training.decoder_config import DecoderTrainingConfig

BATCHES_IN_POOL = 6
"""So many batches' worth of examples are sorted by length at a time."""


def batches(examples: Iterator[Example], config: DecoderTrainingConfig) -> Iterator[list[Example]]:
    """Batches without end, each of examples of like length, so that little is padding."""
    rng = random.Random(0)
    while True:
        pool = sorted((next(examples) for _ in range(config.max_batch * BATCHES_IN_POOL)), key=num_source_tokens)
        cut = cut_by_tokens(pool, config)
        rng.shuffle(cut)
        yield from cut


def cut_by_tokens(pool: list[Example], config: DecoderTrainingConfig) -> list[list[Example]]:
    found: list[list[Example]] = [[]]
    for example in pool:
        size = len(found[-1])
        if size == config.max_batch or (size and (size + 1) * num_source_tokens(example) > config.max_batch_tokens):
            found.append([])
        found[-1].append(example)
    return found


def num_source_tokens(example: Example) -> int:
    """About how many tokens the passages have, the question in front of each."""
    query = len(example.request.text or "") // CHARS_PER_TOKEN + 5
    return query + sum(query + len(passage.text) // CHARS_PER_TOKEN for passage in example.request.passages)
