"""Weighted reciprocal rank fusion: several rankings of the same things become one.

Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
SIGIR 2009, with a weight for each ranking.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Fused(Generic[K]):
    """A thing with its fused score and its rank, from 1, in each branch that found it."""

    key: K
    score: float
    ranks: dict[str, int]


def fuse(
    rankings: Mapping[str, Mapping[K, int]], weights: Mapping[str, float], rank_constant: int, count: int | None = None
) -> list[Fused[K]]:
    """Sum `weight / (rank_constant + rank)` over the branches; best first, ties in order of first appearance.

    Args:
        count: only so many of the best; None: all.
    """
    scores: dict[K, float] = {}
    for branch, ranking in rankings.items():
        weight = weights[branch]
        for key, rank in ranking.items():
            scores[key] = scores.get(key, 0.0) + weight / (rank_constant + rank)
    best = sorted(scores, key=scores.__getitem__, reverse=True)[:count]
    return [Fused(key, scores[key], _ranks_of(key, rankings)) for key in best]


def _ranks_of(key: K, rankings: Mapping[str, Mapping[K, int]]) -> dict[str, int]:
    return {branch: ranking[key] for branch, ranking in rankings.items() if key in ranking}


def ranks(scored: Iterable[tuple[K, float]]) -> dict[K, int]:
    """Ranks from 1 by descending score; equal scores share the better rank, so that no tie is broken by chance.

    A key that appears twice counts once, by its better score.
    """
    ranking: dict[K, int] = {}
    previous_score, rank = None, 0
    for key, score in sorted(scored, key=itemgetter(1), reverse=True):
        if key in ranking:
            continue
        if score != previous_score:
            previous_score, rank = score, len(ranking) + 1
        ranking[key] = rank
    return ranking
