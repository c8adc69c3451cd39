"""Processes that a service cannot do without are missed: here some that only bear their names."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deployments import vital
from deployments.vital import VitalProcesses


@pytest.fixture
def start(tmp_path):
    """Starts a program of that name, which sleeps."""
    started: list[subprocess.Popen] = []

    def start(name: str) -> subprocess.Popen:
        program = tmp_path / name
        shutil.copy(shutil.which("sleep"), program)
        started.append(subprocess.Popen([program, "99"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_what_never_ran_is_not_missed(start):
    start("other")
    assert VitalProcesses(os.getpid()).lost() is None


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_process_of_ray_that_has_ended_is_named_at_once_also_as_a_zombie(start, name):
    started = {each: start(each) for each in ("raylet", "gcs_server")}
    processes = VitalProcesses(os.getpid())
    assert processes.lost() is None
    started[name].kill()
    os.waitid(os.P_PID, started[name].pid, os.WEXITED | os.WNOWAIT)
    assert processes.lost() == f"{name} (process {started[name].pid})"


def test_what_is_started_again_is_missed_only_when_it_stays_away(start, monkeypatch):
    monkeypatch.setitem(vital.PATIENCE_S, "controller", 9.0)
    monkeypatch.setattr(vital.time, "monotonic", lambda: now_s)
    now_s, first = 0.0, start("controller")
    processes = VitalProcesses(os.getpid())
    assert processes.lost() is None
    first.kill()
    first.wait()
    assert processes.lost() is None
    now_s, second = 8.0, start("controller-again")
    assert processes.lost() is None
    second.kill()
    second.wait()
    now_s = 16.0
    assert processes.lost() is None
    now_s = 25.0
    assert processes.lost() == f"controller (process {second.pid})"


def test_the_programs_of_this_ray_have_these_names():
    import ray

    programs = Path(ray.__file__).parent / "core" / "src" / "ray"
    assert (programs / "raylet" / "raylet").exists() and (programs / "gcs" / "gcs_server").exists()
