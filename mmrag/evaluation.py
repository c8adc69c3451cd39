"""Measures of retrieval and of answers, and the table they are printed in."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


def recall_at_k(ranked: Sequence[str], relevant: set[str], k: int) -> float:
    """Share of the relevant ids among the first k."""
    return len(relevant & set(ranked[:k])) / len(relevant)


def reciprocal_rank(ranked: Sequence[str], relevant: set[str]) -> float:
    """1 / rank of the first relevant id, 0 where there is none."""
    return next((1 / rank for rank, one in enumerate(ranked, 1) if one in relevant), 0.0)


def ndcg_at_k(ranked: Sequence[str], relevant: set[str], k: int) -> float:
    """Normalised discounted cumulative gain with binary relevance (Järvelin and Kekäläinen 2002)."""
    gain = sum(1 / math.log2(rank + 1) for rank, one in enumerate(ranked[:k], 1) if one in relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return gain / ideal


def normalise_answer(text: str) -> str:
    """Case, runs of white space and a final full stop do not count; words, accents and digits do."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .")


def exact_match(answer: str, accepted: Sequence[str]) -> bool:
    """Whether `answer` is one of the accepted answers, after `normalise_answer`."""
    return normalise_answer(answer) in {normalise_answer(one) for one in accepted}


def token_f1(answer: str, accepted: Sequence[str]) -> float:
    """Best F1 of shared words with any accepted answer (Rajpurkar et al. 2016)."""
    return max(_f1(normalise_answer(answer).split(), normalise_answer(one).split()) for one in accepted)


def _f1(answer: list[str], wanted: list[str]) -> float:
    shared = sum(min(answer.count(word), wanted.count(word)) for word in set(answer))
    return 2 * shared / (len(answer) + len(wanted)) if shared else 0.0


@dataclass(slots=True)
class Row:
    """One line of an evaluation: a measured share with its count, and what it must reach.

    Attributes:
        at_least, at_most: the "must", None where the value is only reported.
    """

    name: str
    value: float
    count: int
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the must holds; true where there is none. A row that measured nothing does not hold."""
        if self.at_least is None and self.at_most is None:
            return True
        lower = 0.0 if self.at_least is None else self.at_least
        upper = 1.0 if self.at_most is None else self.at_most
        return bool(self.count) and lower <= self.value <= upper

    @property
    def must(self) -> str:
        """The must in words: "≥ 95 %", "≤ 10 %", or "" where there is none."""
        if self.at_least is not None:
            return f"≥ {100 * self.at_least:g} %"
        return f"≤ {100 * self.at_most:g} %" if self.at_most is not None else ""


def as_columns(rows: Mapping[str, Sequence[Row]]) -> str:
    """Several things measured alike as a Markdown table: a line for each, a column for each kind of row."""
    first = next(iter(rows.values()))
    lines = [f"| | {' | '.join(f'{row.name} ({row.count:,})' for row in first)} |", "|---" * (len(first) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{100 * row.value:.1f} %' for row in of)} |" for name, of in rows.items()]
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| | measured | of | must | |", "|---|---|---|---|---|"]
    for row in rows:
        mark = ("✓" if row.is_met else "✗ missed") if row.must else ""
        lines.append(f"| {row.name} | {100 * row.value:.1f} % | {row.count:,} | {row.must} | {mark} |")
    return "\n".join(lines)
