"""Load with Locust, as `make loadtest` does it, on services of this process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import serving

ROOT = Path(__file__).parents[2]


def run(url: str, results: Path, *arguments: str) -> tuple[subprocess.CompletedProcess, dict]:
    """The finished process, and what it reported."""
    command = [sys.executable, "-m", "loadtests.run", "--url", url, "--results", str(results), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    found = list(results.glob("*/report.json"))
    return done, json.loads(found[0].read_text()) if found else {}


def test_an_open_loop_sends_all_it_should_reports_and_leaves_nothing(url, http, tmp_path):
    arguments = ["--scenario", "ingest", "--shape", "soak", "--peak", "5", "--duration-s", "4", "--seed", "1"]
    done, report = run(url, tmp_path, *arguments)
    assert done.returncode in (0, 1), done.stderr
    assert f"a service runs at {url}" in done.stdout and "of 4 s" in done.stdout
    total = report["figures"]["total"]
    assert total["sent"] == total["answered"] + total["refused"] + total["failed"] == 20
    assert total["answered"] > 0
    assert set(report["figures"]["stages"]) <= {"text", "search"}
    assert report["scenario"]["name"] == "ingest" and report["machine"]["cores"] > 0
    assert (done.returncode == 0) == all(must["is_met"] for must in report["musts"])
    [directory] = tmp_path.iterdir()
    assert "<h2>Throughput</h2>" in (directory / "report.html").read_text()
    assert report["figures"]["kinds"]["ingest"]["answered"]
    assert [http.get(f"/v1/documents/loadtest-{number}").status_code for number in range(64)] == [404] * 64


def test_a_closed_loop_never_has_more_requests_than_callers(url, tmp_path):
    arguments = ["--scenario", "embed", "--peak", "3", "--duration-s", "3"]
    done, report = run(url, tmp_path, *arguments)
    assert report["figures"]["total"]["answered"] > 3, done.stderr
    [directory] = tmp_path.iterdir()
    calls = [json.loads(line) for line in (directory / "requests.jsonl").read_text().splitlines()]
    for call in calls:
        beside = [c for c in calls if c["due_s"] <= call["due_s"] < c["due_s"] + c["latency_ms"] / 1000]
        assert len(beside) <= 3


class Stalling:
    """Answers searches at once, but nothing at all between its first request and `stall_s` later."""

    def __init__(self, stall_s: float):
        self._stall_s = stall_s
        self._until_s = 0.0
        self._num_searches = 0

    async def __call__(self, scope, receive, send):
        if scope["path"] == "/v1/search":
            self._num_searches += 1
            if self._num_searches == 5:  # the first four warm up
                self._until_s = time.time() + self._stall_s
            await asyncio.sleep(max(0.0, self._until_s - time.time()))
        await respond(send, 200, b"{}")


async def respond(send, status: int, body: bytes, headers: tuple = ()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


def test_an_open_loop_charges_a_stall_to_all_who_came_meanwhile(tmp_path):
    """A loop that waited for the stalled answer would see one slow request, and the service would look fast."""
    with serving(Stalling(stall_s=2.0)) as url:
        _, report = run(url, tmp_path, "--scenario", "search", "--peak", "10", "--duration-s", "4")
    assert report["figures"]["total"]["sent"] == 40
    [directory] = tmp_path.iterdir()
    calls = [json.loads(line) for line in (directory / "requests.jsonl").read_text().splitlines()]
    slow = [call["latency_ms"] for call in calls if call["latency_ms"] > 500]
    assert len(slow) >= 14  # those who came in the first 1.5 s
    assert max(slow) > 1_800


async def refusing(scope, receive, send):
    is_ready = scope["path"] == "/readyz"
    headers = () if is_ready else ((b"retry-after", b"1"),)
    await respond(send, 200 if is_ready else 429, b"{}", headers)


def test_refusals_are_counted_apart_and_fail_the_run_that_demands_none(tmp_path):
    with serving(refusing) as url:
        done, report = run(url, tmp_path, "--scenario", "search", "--peak", "5", "--duration-s", "2")
    assert done.returncode == 1
    total = report["figures"]["total"]
    assert (total["refused"], total["failed"]) == (total["sent"], 0) == (10, 0)
    assert report["figures"]["statuses"] == {"429": 10}


def test_overload_first_finds_out_what_the_service_manages(tmp_path, monkeypatch):
    from loadtests import run as running

    monkeypatch.setattr(running, "SATURATING_S", 2.0)
    monkeypatch.setattr(running, "SATURATING_CALLERS", 2)
    with serving(Slow(0.1)) as url:
        arguments = ["--scenario", "overload", "--duration-s", "3", "--url", url, "--results", str(tmp_path)]
        running.main(arguments)
    [path] = tmp_path.glob("*/report.json")
    assert 10 < json.loads(path.read_text())["scenario"]["peak"] < 2.4 * 21  # 2 callers, at most 20 answers a second


class Slow:
    def __init__(self, answer_s: float):
        self._answer_s = answer_s

    async def __call__(self, scope, receive, send):
        await asyncio.sleep(self._answer_s)
        await respond(send, 200, b"{}")


async def never_ready(scope, receive, send):
    await respond(send, 503, b"{}")


def test_a_service_that_cannot_start_is_said_in_its_own_words(tmp_path):
    with serving(never_ready) as url:
        done, _ = run(url, tmp_path, "--scenario", "search")
    assert done.returncode == 2
    assert f"no service runs at {url}: starting one" in done.stdout
    assert "is in use by" in done.stderr


def test_ctrl_c_ends_the_load_early_and_what_there_is_is_reported(tmp_path):
    arguments = ["--scenario", "search", "--duration-s", "600", "--results", str(tmp_path)]
    with serving(Slow(0.01)) as url:
        command = [sys.executable, "-m", "loadtests.run", "--url", url, *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
        )  # fmt: skip
        while not any(path.stat().st_size for path in tmp_path.glob("*/requests.jsonl")):
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        output, _ = process.communicate(timeout=120)
    assert "report: " in output
    [path] = tmp_path.glob("*/report.json")
    assert 0 < json.loads(path.read_text())["figures"]["total"]["answered"] < 12_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://192.0.2.1:9"], "one can only be started on this machine"),
        (["--scenario", "nothing"], "no scenario 'nothing'"),
    ],
)
def test_without_anything_to_test_it_says_why(tmp_path, arguments, message, monkeypatch):
    command = [sys.executable, "-m", "loadtests.run", "--results", str(tmp_path), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert message in done.stderr
