"""Weighted reciprocal rank fusion: several rankings of the same things become one.

Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
SIGIR 2009, with a weight for each ranking.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Fused(Generic[K]):
    """A thing with its fused score and its rank, from 1, in each branch that found it."""

    key: K
    score: float = 0.0
    ranks: dict[str, int] = field(default_factory=dict)


def fuse(rankings: Mapping[str, Mapping[K, int]], weights: Mapping[str, float], rank_constant: int) -> list[Fused[K]]:
    """Sum `weight / (rank_constant + rank)` over the branches; best first, ties in order of first appearance."""
    fused: dict[K, Fused[K]] = {}
    for branch, ranking in rankings.items():
        for key, rank in ranking.items():
            item = fused.setdefault(key, Fused(key))
            item.score += weights[branch] / (rank_constant + rank)
            item.ranks[branch] = rank
    return sorted(fused.values(), key=lambda item: -item.score)


def ranks(scored: Iterable[tuple[K, float]]) -> dict[K, int]:
    """Ranks from 1 by descending score; equal scores share the better rank, so that no tie is broken by chance.

    A key that appears twice counts once, by its better score.
    """
    ranking: dict[K, int] = {}
    previous_score, rank = None, 0
    for key, score in sorted(scored, key=lambda pair: -pair[1]):
        if key in ranking:
            continue
        if score != previous_score:
            previous_score, rank = score, len(ranking) + 1
        ranking[key] = rank
    return ranking
