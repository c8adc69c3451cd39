import argparse
from dataclasses import fields

import pytest

from loadtests.scenarios import SCENARIOS, Must, Scenario, add_arguments, chosen, load_scenarios
from loadtests.workload import KINDS

GOOD = """
[one]
about = "x"
mix = { text = 1 }
loop = "open"
shape = "soak"
duration_s = 5
in_time_ms = 9
peak = 2
"""


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_scenarios_that_are_shipped_can_be_used_and_demand_something():
    known = load_scenarios()
    assert {"text", "image", "both", "search", "embed", "batches", "ingest", "mix", "repeats", "overload"} <= set(known)
    assert {kind for scenario in known.values() for kind in scenario.mix} == set(KINDS)
    assert {scenario.shape for scenario in known.values()} == {"ramp", "step", "spike", "soak"}
    for scenario in known.values():
        assert scenario.must.failed_share is not None


def test_arguments_change_a_scenario_for_one_run():
    changed = chosen(options("--scenario", "embed", "--shape", "ramp", "--loop", "open", "--peak", "3.5"))
    assert (changed.shape, changed.loop, changed.peak) == ("ramp", "open", 3.5)
    assert changed.mix == load_scenarios()["embed"].mix


def test_arguments_may_come_as_strings_from_a_page():
    given = options()
    given.scenario, given.peak, given.duration_s, given.shape = "embed", "8", "2.5", ""
    changed = chosen(given)
    assert (changed.peak, changed.duration_s, changed.shape) == (8, 2.5, "soak")


def test_an_unknown_scenario_is_answered_with_those_that_are_known():
    with pytest.raises(ValueError, match="no scenario 'txet'; there are text, "):
        chosen(options("--scenario", "txet"))


MISTAKES = {
    "mix = { txet = 1 }": "unknown kinds of requests: txet",
    'shape = "sock"': "no such shape: sock",
    'loop = "ajar"': "no such loop: ajar",
    "# no peak": "needs `peak`",
    "peak = 0": "above 0",
    "peek = 2": "unknown entries: peek",
    "must = { p59_ms = 3 }": "unknown entries: p59_ms",
    "must = { p95_ms = { search = 3 } }": "not in the mix",
    "# no duration_s": "duration_s",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_in_a_scenario_is_said(tmp_path, line):
    """`line` takes the place of what GOOD says of the same."""
    setting = line.removeprefix("# no ").partition(" ")[0]
    path = tmp_path / "scenarios.toml"
    path.write_text("".join(f"{kept}\n" for kept in GOOD.splitlines() if not kept.startswith(setting)) + line)
    with pytest.raises(ValueError, match=MISTAKES[line]):
        load_scenarios(path)


def test_a_closed_loop_counts_whole_callers_and_never_none(tmp_path):
    closed = chosen(options("--scenario", "embed", "--shape", "ramp", "--duration-s", "10"))
    assert [closed.load_at(at_s) for at_s in (0, 5, 10, 99)] == [1, 32, 64, 64]


def test_every_objective_is_explained():
    text = SCENARIOS.read_text()
    for field in (*fields(Must), *fields(Scenario)):
        assert field.name in text or field.name == "name"
