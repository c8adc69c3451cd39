"""The figures of a recorded run: in all, by kind of request, over time, by load, and by stage."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from loadtests.recording import Recorded
from loadtests.scenarios import Scenario

QUANTILES = (50, 95, 99)
MAX_WINDOWS = 60
MAX_LOADS = 8
NUM_PROBLEMS = 5

Calls = list[dict[str, Any]]


def totals(calls: Calls, scenario: Scenario, span_s: float) -> dict[str, Any]:
    """What became of `calls` that were due within `span_s` seconds.

    "answered": whole, with status 200; "good": also in time; "refused": 429 or 503; "failed": all else. Latencies, in
    ms, are those of answers.
    """
    num = Counter(call["outcome"] for call in calls)
    num_good = sum(is_good(call, scenario) for call in calls)
    found: dict[str, Any] = {"sent": len(calls), "good": num_good}
    found |= {outcome: num[outcome] for outcome in ("answered", "refused", "failed")}
    found["degraded"] = sum(call["is_degraded"] for call in calls)
    for name in ("sent", "answered", "good", "refused", "failed"):
        found[f"{name}_per_s"] = found[name] / span_s
    for name in ("good", "refused", "failed"):
        found[f"{name}_share"] = found[name] / len(calls) if calls else 0.0
    return found | latencies(calls)


def latencies(calls: Calls) -> dict[str, float | None]:
    """p50, p95 and p99 of answers in ms, and of first tokens; None without any."""
    answered = [call for call in calls if call["outcome"] == "answered"]
    first = [call["first_ms"] for call in answered if call["first_ms"] is not None]
    whole = percentiles(call["latency_ms"] for call in answered)
    return {f"p{q}": whole[q] for q in QUANTILES} | {f"first_p{q}": at for q, at in percentiles(first).items()}


def percentiles(values: Iterable[float]) -> dict[int, float | None]:
    """Each of `QUANTILES`; None without values."""
    values = list(values)
    return {q: float(np.percentile(values, q)) if values else None for q in QUANTILES}


def is_good(call: dict[str, Any], scenario: Scenario) -> bool:
    """Answered, and in time."""
    return call["outcome"] == "answered" and call["latency_ms"] <= scenario.in_time_ms


def span_s(recorded: Recorded, scenario: Scenario) -> float:
    """Seconds in which requests were sent: less than was planned where the load was ended early."""
    return max(min(scenario.duration_s, recorded.ended_s - recorded.started_s), 1e-3)


def by_kind(recorded: Recorded, scenario: Scenario) -> dict[str, dict[str, Any]]:
    """`totals` of each kind of request, in the order of the mix."""
    found = defaultdict(list)
    for call in recorded.calls:
        found[call["kind"]].append(call)
    span = span_s(recorded, scenario)
    return {kind: totals(found[kind], scenario, span) for kind in scenario.mix if found[kind]}


def over_time(recorded: Recorded, scenario: Scenario) -> list[dict[str, Any]]:
    """`totals` of the requests that were due in each window of time, which is at `at_s`, its middle.

    `completed_per_s`: answers that came in that window, whenever they had been asked for.
    """
    span = span_s(recorded, scenario)
    num = max(1, min(MAX_WINDOWS, round(span)))
    due: list[Calls] = [[] for _ in range(num)]
    completed: Counter[int] = Counter()
    for call in recorded.calls:
        due_s = call["due_s"] - recorded.started_s
        due[max(0, min(num - 1, int(num * due_s / span)))].append(call)
        if call["outcome"] == "answered":
            completed[int(num * (due_s + call["latency_ms"] / 1000) / span)] += 1
    return [
        {"at_s": span * (i + 0.5) / num, "completed_per_s": completed[i] * num / span}
        | totals(calls, scenario, span / num)
        for i, calls in enumerate(due)
    ]


def by_load(recorded: Recorded, scenario: Scenario) -> list[dict[str, Any]]:
    """`totals` of the requests that were due at each `load`, ascending; similar loads together where there are many."""
    span = span_s(recorded, scenario)
    sampled = [scenario.load_at(span * (i + 0.5) / 1000) for i in range(1000)]
    levels = sorted(set(sampled))
    edges = levels if len(levels) <= MAX_LOADS else list(np.linspace(levels[0], levels[-1], MAX_LOADS + 1)[:-1])

    def bin_of(load: float) -> int:
        return max(0, int(np.searchsorted(edges, load * (1 + 1e-9), side="right")) - 1)

    loads, calls = defaultdict(list), defaultdict(list)
    for load in sampled:
        loads[bin_of(load)].append(load)
    for call in recorded.calls:
        calls[bin_of(call["load"])].append(call)
    return [
        {"load": float(np.mean(loads[i]))} | totals(calls[i], scenario, span * len(loads[i]) / len(sampled))
        for i in sorted(loads)
    ]


def stages(recorded: Recorded, scenario: Scenario) -> dict[str, dict[str, float]]:
    """Mean ms of each stage for each kind of request whose answers tell; `latency`: as the caller saw it."""
    found = defaultdict(list)
    for call in recorded.calls:
        if call["outcome"] == "answered" and call["stages_ms"]:
            found[call["kind"]].append(call["stages_ms"] | {"latency": call["latency_ms"]})
    return {kind: _means(found[kind]) for kind in scenario.mix if found[kind]}


def statuses(calls: Calls) -> dict[str, int]:
    """How often each HTTP status came; "none" where there was no answer at all."""
    found = Counter(str(call["status"] or "none") for call in calls)
    return dict(sorted(found.items()))


def problems(calls: Calls) -> dict[str, int]:
    """The most frequent problems, refusals and failures alike."""
    return dict(Counter(call["problem"] for call in calls if call["problem"]).most_common(NUM_PROBLEMS))


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    names = {name: None for row in rows for name in row}  # in the order in which they come
    return {name: sum(row.get(name, 0.0) for row in rows) / len(rows) for name in names}
