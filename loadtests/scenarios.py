"""Reads scenarios.toml: what is sent, how, and what it must show."""

import argparse
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from loadtests.shapes import SHAPES
from loadtests.workload import KINDS

SCENARIOS = Path(__file__).parent / "scenarios.toml"
LOOPS = ("open", "closed")
WARM_UP_REQUESTS = 4
"""Of each kind, before anything is counted."""


@dataclass(frozen=True)
class Must:
    """Objectives; scenarios.toml explains each. None: not demanded."""

    p95_ms: dict[str, float] = field(default_factory=dict)
    first_token_ms: float | None = None
    failed_share: float | None = None
    refused_share: float | None = None
    goodput_share: float | None = None
    goodput_per_s: float | None = None
    overload_goodput: float | None = None
    overload_p99: float | None = None


@dataclass(frozen=True)
class Scenario:
    """One load test. `peak`: requests/s in an open loop, callers in a closed one; None until it has been found out."""

    name: str
    about: str
    mix: dict[str, float]
    loop: str
    shape: str
    duration_s: float
    in_time_ms: float
    peak: float | None = None
    saturations: float | None = None
    zipf: float | None = None
    must: Must = Must()

    def load_at(self, elapsed_s: float) -> float:
        """The load at a time: requests/s in an open loop, whole callers, at least one, in a closed loop."""
        load = self.peak * SHAPES[self.shape](min(elapsed_s / self.duration_s, 1.0))
        return max(1, round(load)) if self.loop == "closed" else load

    @property
    def unit(self) -> str:
        """What `peak` and `load_at` count."""
        return "requests/s" if self.loop == "open" else "callers"


def load_scenarios(path: Path = SCENARIOS) -> dict[str, Scenario]:
    """Scenarios by name.

    Raises:
        ValueError: one cannot be used; says which and why.
    """
    sections = tomllib.loads(path.read_text(encoding="utf-8"))
    defaults = sections.pop("defaults", {})
    return {name: _scenario(name, defaults | section) for name, section in sections.items()}


def scenario_of(record: dict[str, Any]) -> Scenario:
    """The scenario in a record, as `dataclasses.asdict` wrote it."""
    return Scenario(**record | {"must": Must(**record["must"])})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that choose a scenario and change it for one run."""
    parser.add_argument("--scenario", default="mix", help="a section of loadtests/scenarios.toml")
    parser.add_argument("--shape", choices=list(SHAPES), help="in place of the scenario's own")
    parser.add_argument("--loop", choices=LOOPS, help="in place of the scenario's own")
    parser.add_argument("--peak", type=float, help="requests/s (open loop) or callers (closed loop)")
    parser.add_argument("--duration-s", type=float, help="in place of the scenario's own")
    parser.add_argument("--seed", type=int, help="of the questions; by default other ones in every run")


def chosen(options: argparse.Namespace) -> Scenario:
    """The scenario that the arguments name, with their changes. Raises ValueError."""
    known = load_scenarios()
    if options.scenario not in known:
        raise ValueError(f"no scenario {options.scenario!r}; there are {', '.join(known)}")
    # Locust's page gives every value as a string, and an empty one for what was left alone.
    given = {name: getattr(options, name) for name in ("shape", "loop", "peak", "duration_s")}
    kinds = {"peak": float, "duration_s": float}
    wanted = {name: kinds.get(name, str)(value) for name, value in given.items() if value not in (None, "")}
    scenario = replace(known[options.scenario], **wanted)
    _check(scenario)
    return scenario


def _scenario(name: str, section: dict[str, Any]) -> Scenario:
    for known, found in ((Scenario, section), (Must, section.get("must", {}))):
        if unknown := set(found) - {field.name for field in fields(known)}:
            raise ValueError(f"[{name}] has unknown entries: {', '.join(sorted(unknown))}")
    try:
        scenario = Scenario(name=name, **section | {"must": Must(**section.get("must", {}))})
    except TypeError as error:
        raise ValueError(f"[{name}]: {error}") from error
    _check(scenario)
    return scenario


def _check(scenario: Scenario) -> None:
    unknown = ", ".join(sorted(set(scenario.mix) - set(KINDS)))
    not_sent = set(scenario.must.p95_ms) - set(scenario.mix)
    has_no_peak = scenario.peak is None and (scenario.saturations is None or scenario.loop == "closed")
    has_nothing = (scenario.peak is not None and scenario.peak <= 0) or scenario.duration_s <= 0
    problems = {
        f"unknown kinds of requests: {unknown}": unknown,
        f"no such shape: {scenario.shape}": scenario.shape not in SHAPES,
        f"no such loop: {scenario.loop}": scenario.loop not in LOOPS,
        "p95_ms demands something of requests that are not in the mix": not_sent,
        "it needs `peak`, or `saturations` in an open loop": has_no_peak,
        "`peak` and `duration_s` must be above 0": has_nothing,
    }
    for problem, is_one in problems.items():
        if is_one:
            raise ValueError(f"[{scenario.name}]: {problem}")
