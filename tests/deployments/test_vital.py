"""Processes that a service cannot do without are missed: here some that only bear their names."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deployments import vital
from deployments.processes import command_of
from deployments.vital import VitalProcesses
from tests.waiting import until


@pytest.fixture
def start(tmp_path):
    """Starts a program of that name, which sleeps."""
    started: list[subprocess.Popen] = []

    def start(name: str) -> subprocess.Popen:
        program = tmp_path / name
        shutil.copy(shutil.which("sleep"), program)
        started.append(process := subprocess.Popen([program, "99"]))
        until(lambda: command_of(process.pid, 1000).startswith(str(program)))  # a new program is nameless at first
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_what_never_ran_is_not_missed(start):
    start("other")
    assert VitalProcesses(os.getpid()).lost() is None


@pytest.fixture
def patience_s(monkeypatch) -> dict[str, float]:
    """Other names than Ray's: real ones may run below this process, for other tests."""
    patience_s = {"raylet-here": 0.0, "gcs-here": 0.0}
    monkeypatch.setattr(vital, "PATIENCE_S", patience_s)
    return patience_s


@pytest.mark.parametrize("name", ["raylet-here", "gcs-here"])
def test_a_process_that_has_ended_is_named_at_once_also_as_a_zombie(start, patience_s, name):
    started = {each: start(each) for each in patience_s}
    processes = VitalProcesses(os.getpid())
    assert processes.lost() is None
    started[name].kill()
    os.waitid(os.P_PID, started[name].pid, os.WEXITED | os.WNOWAIT)
    assert processes.lost() == f"{name} (process {started[name].pid})"


def test_what_is_started_again_is_missed_only_when_it_stays_away(start, monkeypatch, patience_s):
    patience_s["controller-here"] = 9.0
    monkeypatch.setattr(vital.time, "monotonic", lambda: now_s)
    now_s = 0.0
    first = start("controller-here")
    processes = VitalProcesses(os.getpid())
    assert processes.lost() is None
    first.kill()
    first.wait()
    assert processes.lost() is None
    now_s, second = 8.0, start("controller-here-again")
    assert processes.lost() is None
    second.kill()
    second.wait()
    now_s = 16.0
    assert processes.lost() is None
    now_s = 25.0
    assert processes.lost() == f"controller-here (process {second.pid})"


def test_the_programs_of_this_ray_have_these_names():
    import ray

    programs = Path(ray.__file__).parent / "core" / "src" / "ray"
    assert (programs / "raylet" / "raylet").exists() and (programs / "gcs" / "gcs_server").exists()
    assert {"raylet", "gcs_server"} < vital.PATIENCE_S.keys()
