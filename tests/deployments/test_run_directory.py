"""Which directories a start clears away: those of launchers that were killed, and no others."""

import subprocess
import sys

import pytest

from deployments import narration, processes, run_directory
from deployments.run_directory import RunDirectory, clean_up_after_killed_runs
from tests.waiting import until

LAUNCHER = """
import subprocess, sys, time
from pathlib import Path
from deployments import run_directory
run_directory.ROOT = Path(sys.argv[1])
run = run_directory.RunDirectory()
child = subprocess.Popen(["sleep", "99"], env={"MMRAG_RUN": str(run.path)}, start_new_session=True)
print(run.path, child.pid, flush=True)
time.sleep(99)
"""


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory, "ROOT", tmp_path)
    monkeypatch.setenv("MMRAG_STARTED_S", "")  # given back at the end
    narration.begin()
    return tmp_path


@pytest.fixture
def launcher(root):
    """A launcher in a process of its own, its directory, and the id of a process that it started."""
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(root)], stdout=subprocess.PIPE, text=True)
    path, child = process.stdout.readline().split()
    yield process, root / path, int(child)
    process.kill()
    process.wait()
    process.stdout.close()
    processes.end([int(child)])


def test_another_running_service_keeps_its_files_and_its_processes(launcher):
    process, path, child = launcher
    mine = RunDirectory()
    clean_up_after_killed_runs()
    assert path.is_dir() and mine.path.is_dir()
    assert process.poll() is None and processes.is_running(child)


def test_what_a_killed_launcher_left_is_cleared_away_and_named(launcher, capsys):
    process, path, child = launcher
    process.kill()
    process.wait()
    clean_up_after_killed_runs()
    assert not path.exists()
    until(lambda: not processes.is_running(child))
    assert f"ending process {child}, left over from an earlier run: sleep 99" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["mmrag-notes/mine.txt", "mmrag-elasticsearch-x/launcher", "mmrag-serve-x/mine.txt"])
def test_what_is_not_of_a_launcher_stays(root, name):
    path = root / name
    path.parent.mkdir()
    path.write_text("1")
    clean_up_after_killed_runs()
    assert path.exists()


def test_a_run_that_ends_removes_its_directory(root):
    run = RunDirectory()
    run.remove()
    assert not list(root.iterdir())
