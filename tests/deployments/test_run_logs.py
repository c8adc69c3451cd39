"""Logs are found at one path, while a run lasts and afterwards."""

import shutil
from pathlib import Path

import pytest

from deployments import run_logs


def run_of(path: Path, text: str) -> Path:
    """A run's directory as Ray makes it, with one log."""
    logs = path / "session_1" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").write_text(text)
    (path / "session_latest").symlink_to(path / "session_1")
    return path


def test_the_path_that_was_announced_has_the_logs_during_the_run_and_after_it(tmp_path):
    run, home = tmp_path / "run", tmp_path / "logs"
    run.mkdir()
    path = run_logs.announce(run, home)
    run_of(run, "words")
    assert (path / "raylet.out").read_text() == "words"
    run_logs.keep(run)
    shutil.rmtree(run)
    assert (path / "raylet.out").read_text() == "words"


def test_the_last_runs_are_kept_and_running_ones_left_alone(tmp_path, monkeypatch):
    home = tmp_path / "logs"
    running = run_of(tmp_path / "running", "now")
    monkeypatch.setattr(run_logs.time, "strftime", lambda form: "0-the-first")
    live = run_logs.announce(running, home)
    for number in range(run_logs.MAX_KEPT + 2):
        monkeypatch.setattr(run_logs.time, "strftime", lambda form, number=number: str(number))
        run = run_of(tmp_path / f"run-{number}", str(number))
        run_logs.announce(run, home)
        run_logs.keep(run)
    kept = [(path / "raylet.out").read_text() for path in sorted(home.iterdir()) if not path.is_symlink()]
    assert kept == [str(number) for number in range(2, run_logs.MAX_KEPT + 2)]
    assert (live / "raylet.out").read_text() == "now"


def test_a_run_that_the_machine_did_not_survive_leaves_no_link(tmp_path):
    home = tmp_path / "logs"
    lost = run_logs.announce(run_of(tmp_path / "lost", ""), home)
    shutil.rmtree(tmp_path / "lost")
    run = run_of(tmp_path / "run", "")
    path = Path(str(lost) + "-next")
    run_logs.announce(run, home / "x")
    (run / "logs-path").write_text(str(path))
    path.symlink_to(run / "session_latest" / "logs")
    run_logs.keep(run)
    assert sorted(each.name for each in home.iterdir()) == [path.name, "x"]


def test_where_nothing_was_announced_there_is_nothing_to_keep(tmp_path):
    run_logs.keep(run_of(tmp_path / "run", ""))
    with pytest.raises(OSError):
        run_logs.announce(tmp_path, Path("/proc/no-such-place"))
