"""The plots of a report; one that has nothing to show is left out."""

from dataclasses import dataclass
from typing import Any

from loadtests.charts import Series, chart, legend, stacked
from loadtests.recording import Recorded
from loadtests.scenarios import Scenario
from loadtests.timeline import timeline

COLOURS = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")
QUANTILE_COLOURS = {"p50": "c1", "p95": "c2", "p99": "c3"}
TIME = "seconds from the start"
MS = "milliseconds"


@dataclass(frozen=True)
class Plot:
    """A titled figure; `caption` tells how to read it."""

    title: str
    svg: str
    caption: str
    is_wide: bool = False


def all_of(recorded: Recorded, scenario: Scenario, found: dict[str, Any]) -> list[Plot | None]:
    """The plots in the order of the page; None for those that would be empty."""
    windows, loads = found["windows"], found["loads"]
    looks = [look | {"at": look["at_s"] - recorded.started_s} for look in recorded.components]
    looks = [look for look in looks if 0 <= look["at"] <= recorded.ended_s - recorded.started_s]
    return [
        throughput(windows, scenario),
        latency(windows),
        latency_by_load(loads, scenario),
        goodput_by_load(loads, scenario),
        stage_times(found["stages"]),
        replicas(looks),
        cores(looks),
        memory(looks),
    ]


def throughput(windows: list[dict], scenario: Scenario) -> Plot:
    """What became of the requests, over time."""
    late = [window["answered_per_s"] - window["good_per_s"] for window in windows]
    areas = [
        _over(windows, "at_s", "good_per_s", "answered in time", "c1", "/s"),
        Series("answered late", "c2", [(w["at_s"], y) for w, y in zip(windows, late, strict=True)], unit="/s"),
        _over(windows, "at_s", "refused_per_s", "refused", "c4", "/s"),
        _over(windows, "at_s", "failed_per_s", "failed", "c3", "/s"),
    ]
    seen = [area for area in areas if any(y for _, y in area.points)] or areas[:1]
    lines = [_over(windows, "at_s", "completed_per_s", "answers coming back", "ink", "/s", style="dashed")]
    return _plot(
        "Throughput",
        stacked(seen) + lines,
        (TIME, "requests a second"),
        "Areas: what became of the requests that were due at that time. Dashed: answers that came back at that time.",
        is_wide=True,
    )


def latency(windows: list[dict]) -> Plot | None:
    """Percentiles over time, and time to the first token."""
    series = [_over(windows, "at_s", q, q, colour, "ms") for q, colour in QUANTILE_COLOURS.items()]
    if any(window["first_p95"] is not None for window in windows):
        series.append(_over(windows, "at_s", "first_p95", "p95 to the first token", "c5", "ms", style="dashed"))
    caption = "Of the answers to the requests that were due at that time."
    return _plot("Latency", series, (TIME, MS), caption, may_be_log=True)


def latency_by_load(loads: list[dict], scenario: Scenario) -> Plot | None:
    """Percentiles at each load."""
    if len(loads) < 2:
        return None
    series = [_over(loads, "load", q, q, colour, "ms") for q, colour in QUANTILE_COLOURS.items()]
    caption = "Where the lines turn upwards, requests begin to wait for each other."
    return _plot("Latency against load", series, (scenario.unit, MS), caption, may_be_log=True)


def goodput_by_load(loads: list[dict], scenario: Scenario) -> Plot | None:
    """Answers in time at each load."""
    if len(loads) < 2:
        return None
    series = [_over(loads, "load", "good_per_s", "answered in time", "c1", "/s")]
    series.append(_over(loads, "load", "sent_per_s", "asked", "ink", "/s", style="dashed"))
    if any(load["refused"] for load in loads):
        series.append(_over(loads, "load", "refused_per_s", "refused", "c4", "/s"))
    caption = "A service that degrades well goes flat where it saturates, and does not fall."
    return _plot("Goodput against load", series, (scenario.unit, "requests a second"), caption)


def stage_times(stages: dict[str, dict[str, float]]) -> Plot | None:
    """Where the time of each kind of request goes."""
    if not stages:
        return None
    caption = "Means. The encoders work side by side; outside is the way to the service and back, and waiting for it."
    return Plot("Where the time goes", timeline(stages), caption)


def replicas(looks: list[dict]) -> Plot | None:
    """Replicas of each deployment."""
    if not (series := _of_components(looks, "replicas", "", "steps")):
        return None
    return _plot("Replicas", series, (TIME, "replicas"), "What autoscaling made of the load.", is_wide=True)


def cores(looks: list[dict]) -> Plot | None:
    """Processor time by component."""
    if not (series := _of_components(looks[1:], "cores", "cores", "line")):
        return None
    caption = "Processor time of each component, one upon the other. The load generator's own is not in it."
    return _plot("Processor", stacked(series), (TIME, "cores busy"), caption)


def memory(looks: list[dict]) -> Plot | None:
    """Memory by component."""
    if not (series := _of_components(looks, "memory_mb", "MB", "line")):
        return None
    caption = "Resident memory, one component upon the other; what processes share is counted in each."
    return _plot("Memory", stacked(series), (TIME, "megabytes"), caption)


def _of_components(looks: list[dict], what: str, unit: str, style: str) -> list[Series]:
    names = sorted({name for look in looks for name in look[what]})
    everything = sorted({name for look in looks for name in look["replicas"] | look["cores"]})
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(everything)}
    return [
        Series(name, colours[name], [(look["at"], look[what].get(name, 0)) for look in looks], style, unit=unit)
        for name in names
    ]


def _over(rows: list[dict], x: str, y: str, name: str, colour: str, unit: str, style: str = "line") -> Series:
    return Series(name, colour, [(row[x], row[y]) for row in rows], style, unit=unit)


def _plot(
    title: str,
    series: list[Series],
    labels: tuple[str, str],
    caption: str,
    may_be_log: bool = False,
    is_wide: bool = False,
) -> Plot | None:
    if not any(y is not None for one in series for _, y in one.points):
        return None
    x_label, y_label = labels
    svg = legend(series) + chart(series, x_label, y_label, may_be_log, is_wide)
    return Plot(title, svg, caption, is_wide)
