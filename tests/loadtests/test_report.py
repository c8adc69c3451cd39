"""The report of a run that was recorded: its figures, its verdicts, and its page."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.report import write_report
from tests.loadtests.recorded import record, scenario

ROOT = Path(__file__).parents[2]
REFUSED = {"status": 429, "outcome": "refused", "problem": "status 429: <b>too many</b>", "stages_ms": {}}
FAILED = {"status": 500, "outcome": "failed", "problem": "status 500: broken", "stages_ms": {}}


def report_of(directory: Path) -> dict:
    write_report(directory)
    return json.loads((directory / "report.json").read_text())


def musts_of(directory: Path) -> dict[str, bool]:
    return {verdict.what: verdict.is_met for verdict in write_report(directory)}


def steady(due_s: float, load: float) -> dict:
    return {}


def saturating_at(limit_per_s: float, overloaded_ms: float = 150.0):
    """A service that answers so many a second and refuses the rest."""
    credit = 0.0

    def serve(due_s: float, load: float) -> dict:
        nonlocal credit
        credit += min(1.0, limit_per_s / load)
        if credit < 1:
            return REFUSED
        credit -= 1
        return {"latency_ms": overloaded_ms if load > limit_per_s else 100.0}

    return serve


def test_figures_in_all_by_kind_and_over_time(tmp_path):
    tested = scenario("text", mix={"text": 1, "search": 1}, peak=10, duration_s=20, in_time_ms=150)

    def service(due_s, load):
        if due_s > 15.05:
            return REFUSED
        return {"latency_ms": 200.0} if due_s > 10.05 else {}

    found = report_of(record(tmp_path, tested, service))["figures"]
    total = found["total"]
    counts = {"sent": 200, "answered": 150, "good": 100, "refused": 50, "failed": 0}
    assert {name: total[name] for name in counts} == counts
    assert (total["good_per_s"], total["good_share"], total["refused_share"]) == (5.0, 0.5, 0.25)
    assert (total["p50"], total["p99"]) == (100.0, 200.0)
    assert found["statuses"] == {"200": 150, "429": 50}
    assert [found["kinds"][kind]["sent"] for kind in ("text", "search")] == [100, 100]
    assert len(found["windows"]) == 20
    assert [window["p50"] for window in found["windows"]][::6] == [100.0, 100.0, 200.0, None]
    assert sum(window["completed_per_s"] for window in found["windows"]) == pytest.approx(150, abs=2)


def test_each_step_of_the_load_has_its_figures(tmp_path):
    tested = scenario("overload", peak=24, duration_s=60)
    loads = report_of(record(tmp_path, tested, saturating_at(10)))["figures"]["loads"]
    assert [load["load"] for load in loads] == pytest.approx([4, 8, 12, 16, 20, 24])
    assert [load["good_per_s"] for load in loads] == pytest.approx([4, 8, 10, 10, 10, 10], abs=0.3)
    assert [load["p50"] for load in loads] == [100, 100, 150, 150, 150, 150]


def test_stages_are_means_beside_what_the_caller_saw(tmp_path):
    stages = report_of(record(tmp_path, scenario("text"), steady))["figures"]["stages"]
    assert stages == {"text": {"text_encoder": 20, "retriever": 10, "decode": 60, "total": 90, "latency": 100}}


def test_the_page_shows_everything_and_needs_nothing_else(tmp_path):
    tested = scenario("mix", peak=20, duration_s=30)
    directory = record(tmp_path, tested, lambda due_s, load: REFUSED if load > 18 else {"first_ms": 60.0})
    write_report(directory)
    page = (directory / "report.html").read_text()
    for title in (
        "Throughput",
        "Latency",
        "Latency against load",
        "Goodput against load",
        "Where the time goes",
        "Replicas",
        "Processor",
        "Memory",
        "Objectives",
    ):
        assert f"<h2>{title}</h2>" in page
    assert "abc123" in page and "FusionDecoder: 2" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
    assert "<b>too many</b>" not in page and "&lt;b&gt;too many" in page
    assert "a &lt;quick&gt; processor" in page


def test_without_a_look_at_the_service_the_rest_is_shown(tmp_path):
    directory = record(tmp_path, scenario("text", duration_s=20), steady, has_components=False)
    write_report(directory)
    page = (directory / "report.html").read_text()
    assert "<h2>Latency</h2>" in page
    assert "<h2>Replicas</h2>" not in page and "<h2>Processor</h2>" not in page


def test_a_run_without_an_answer_misses_its_objectives_and_still_has_a_page(tmp_path):
    directory = record(tmp_path, scenario("text", duration_s=5), lambda due_s, load: FAILED)
    assert not any(met for what, met in musts_of(directory).items() if what != "refused (429, 503)")
    assert "nothing to measure" in (directory / "report.html").read_text()


def test_a_run_without_a_request_misses_everything(tmp_path):
    directory = record(tmp_path, scenario("text", peak=0.01, duration_s=5), steady)
    assert not any(musts_of(directory).values())


@pytest.mark.parametrize(
    ("service", "missed"),
    [
        (steady, set()),
        (lambda due_s, load: {"latency_ms": 700.0}, {"p95 of text"}),
        (lambda due_s, load: FAILED if 7 < due_s < 7.9 else {}, {"failed", "answered in time"}),
        (lambda due_s, load: REFUSED if 7 < due_s < 7.9 else {}, {"refused (429, 503)", "answered in time"}),
        (lambda due_s, load: {"latency_ms": 9e3} if due_s < 1 else {}, {"answered in time"}),
    ],
)
def test_each_objective_can_be_missed_alone(tmp_path, service, missed):
    musts = musts_of(record(tmp_path, scenario("text", peak=6, duration_s=60), service))
    assert {what for what, is_met in musts.items() if not is_met} == missed


def test_refusals_are_not_failures(tmp_path):
    musts = musts_of(record(tmp_path, scenario("spike"), lambda due_s, load: REFUSED if 30 < due_s < 31 else {}))
    assert musts["failed"]


def test_the_first_token_has_an_objective_of_its_own(tmp_path):
    tested = scenario("stream", duration_s=10)
    assert musts_of(record(tmp_path, tested, lambda due_s, load: {"first_ms": 90.0}))["p95 to the first token"]
    assert not musts_of(record(tmp_path, tested, lambda due_s, load: {"first_ms": 900.0}))["p95 to the first token"]
    assert not musts_of(record(tmp_path, tested, steady))["p95 to the first token"]


GOODPUT = "goodput at the highest load, of the best"
P99 = "p99 at the highest load, of that at saturation"


def test_overload_is_judged_against_saturation(tmp_path):
    tested = scenario("overload", peak=24, duration_s=60)
    assert all(musts_of(record(tmp_path, tested, saturating_at(10))).values())
    slow = musts_of(record(tmp_path, tested, lambda due_s, load: {"latency_ms": 50 * load}))
    assert not slow[P99]


def test_a_service_that_collapses_misses_the_goodput(tmp_path):
    tested = scenario("overload", peak=24, duration_s=60)
    musts = musts_of(record(tmp_path, tested, lambda due_s, load: REFUSED if load > 13 and due_s % 1 > 0.2 else {}))
    assert not musts[GOODPUT]


def test_a_load_that_never_saturates_proves_nothing(tmp_path):
    musts = musts_of(record(tmp_path, scenario("overload", peak=24, duration_s=60), steady))
    assert not musts[GOODPUT] and not musts[P99]


@pytest.mark.parametrize(("service", "status"), [(steady, 0), (lambda due_s, load: FAILED, 1)])
def test_the_exit_status_tells_whether_the_objectives_were_met(tmp_path, service, status):
    directory = record(tmp_path, scenario("text", duration_s=5), service)
    command = [sys.executable, "-m", "loadtests.report", str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    assert ("✗" in done.stdout) == bool(status)
