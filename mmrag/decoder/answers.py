"""From what the engine collected to what the caller gets."""

import math
from typing import Any

from tokenizers import Tokenizer

from mmrag.decoder.attribution import attribute
from mmrag.types import Decoded, LabelScore

MAX_LABEL_TOKENS = 32
"""Of a long label only the first so many count."""


def decoded(job: Any, tokenizer: Tokenizer) -> Decoded:
    """The text an `engine.Job` wrote, explained if that was asked for."""
    writing, explained = job.writing, None
    if job.request.explain:
        explained = attribute(writing.tokens, job.looks, job.request, job.prompts, tokenizer)
    return Decoded(writing.text, None, explained, len(writing.tokens), writing.finish_reason)


def labelled(labels: list[str], scores: list[float], are_logarithms: bool = False) -> Decoded:
    """Labels by their probabilities among each other, best first."""
    if are_logarithms:
        exponentials = [math.exp(score - max(scores)) for score in scores]
        scores = [value / sum(exponentials) for value in exponentials]
    ranked = sorted(map(LabelScore, labels, scores), key=lambda label: -label.score)
    return Decoded(ranked[0].label, ranked)


def label_targets(tokenizer: Tokenizer, end_id: int, labels: list[str]) -> list[list[int]]:
    """The tokens that write each label, as far as they count."""
    written = [[*tokenizer.encode(" " + label, add_special_tokens=False).ids, end_id] for label in labels]
    return [target[:MAX_LABEL_TOKENS] for target in written]
