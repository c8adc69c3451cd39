"""Whether a run showed what its scenario demands."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from loadtests.scenarios import Scenario

SATURATED_SHARE = 0.95
"""Saturation is the lowest load with this share of the best goodput at any load."""


@dataclass(frozen=True)
class Verdict:
    """One objective. `measured` is None where nothing was there to be measured, which is a miss."""

    what: str
    is_at_most: bool
    must: float
    measured: float | None
    unit: str = ""

    @property
    def is_met(self) -> bool:
        if self.measured is None:
            return False
        return self.measured <= self.must if self.is_at_most else self.measured >= self.must


def verdicts(scenario: Scenario, figures: dict[str, Any]) -> list[Verdict]:
    """A verdict for each objective of the scenario; `figures` as `loadtests.report.figures_of` gives them."""
    found = [*_latencies(scenario, figures), *_shares(scenario, figures["total"])]
    return [*found, *_overload(scenario, figures["loads"])]


def _latencies(scenario: Scenario, figures: dict[str, Any]) -> Iterator[Verdict]:
    for kind, must in scenario.must.p95_ms.items():
        yield Verdict(f"p95 of {kind}", True, must, figures["kinds"].get(kind, {}).get("p95"), "ms")
    if scenario.must.first_token_ms is not None:
        yield Verdict("p95 to the first token", True, scenario.must.first_token_ms, figures["total"]["first_p95"], "ms")


def _shares(scenario: Scenario, total: dict[str, Any]) -> Iterator[Verdict]:
    must, is_any = scenario.must, total["sent"] > 0
    rows = [
        ("failed", True, must.failed_share, "failed_share", "%"),
        ("refused (429, 503)", True, must.refused_share, "refused_share", "%"),
        ("answered in time", False, must.goodput_share, "good_share", "%"),
        ("answered in time", False, must.goodput_per_s, "good_per_s", "/s"),
    ]
    for what, is_at_most, demanded, name, unit in rows:
        if demanded is not None:
            yield Verdict(what, is_at_most, demanded, total[name] if is_any else None, unit)


def _overload(scenario: Scenario, loads: list[dict[str, Any]]) -> Iterator[Verdict]:
    found = overload(loads)
    must = scenario.must
    if must.overload_goodput is not None:
        yield Verdict("goodput at the highest load, of the best", False, must.overload_goodput, found["goodput"], "%")
    if must.overload_p99 is not None:
        yield Verdict("p99 at the highest load, of that at saturation", True, must.overload_p99, found["p99"], "×")


def overload(loads: list[dict[str, Any]]) -> dict[str, float | None]:
    """How the highest load compares with the best goodput, and with p99 at saturation; None where it is no overload."""
    best_per_s = max((load["good_per_s"] for load in loads), default=0.0)
    if len(loads) < 2 or not best_per_s:
        return {"goodput": None, "p99": None}
    saturation = next(load for load in loads if load["good_per_s"] >= SATURATED_SHARE * best_per_s)
    highest = loads[-1]
    if saturation is highest:  # the service was never more than busy
        return {"goodput": None, "p99": None}
    is_comparable = highest["p99"] is not None and saturation["p99"]
    return {
        "goodput": highest["good_per_s"] / best_per_s,
        "p99": highest["p99"] / saturation["p99"] if is_comparable else None,
    }


FORMATS: dict[str, Callable[[float], str]] = {
    "ms": lambda value: f"{value:,.0f} ms",
    "%": lambda value: f"{round(100 * value, 2):g} %",
    "/s": lambda value: f"{value:,.1f} /s",
    "×": lambda value: f"{value:.2f} ×",
}


def in_words(verdict: Verdict) -> tuple[str, str]:
    """What was demanded and what was measured, for people."""
    shown = FORMATS[verdict.unit]
    measured = "nothing to measure" if verdict.measured is None else shown(verdict.measured)
    return f"{'≤' if verdict.is_at_most else '≥'} {shown(verdict.must)}", measured
