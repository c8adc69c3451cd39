"""Which commit a figure is said to be of: one that a reader can look at."""

import subprocess
from pathlib import Path

import pytest

from loadtests import machine


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, text: str) -> str:
    (folder / "file").write_text(text)
    git(folder, "add", "file")
    git(folder, "commit", "-qm", text)
    return git(folder, "rev-parse", "HEAD")[:12]


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A repository that somebody else's was cloned to, with one commit."""
    (tmp_path / "theirs").mkdir()
    git(tmp_path / "theirs", "init", "-q", "-b", "main")
    commit(tmp_path / "theirs", "shared")
    git(tmp_path, "clone", "-q", "theirs", "ours")
    monkeypatch.setattr(machine, "ROOT", tmp_path / "ours")
    return tmp_path / "ours"


def described() -> tuple[str, bool]:
    return machine.describe()["commit"], machine.describe()["is_modified"]


def test_what_others_have_is_named_and_what_only_we_have_is_a_change_to_it(clone):
    shared = git(clone, "rev-parse", "HEAD")[:12]
    assert described() == (shared, False)
    commit(clone, "ours alone")
    assert described() == (shared, True)


def test_changes_that_are_not_committed_are_told(clone):
    (clone / "file").write_text("changed")
    assert described()[1]


def test_a_repository_that_has_no_other_names_its_own(clone, monkeypatch):
    theirs = clone.parent / "theirs"
    monkeypatch.setattr(machine, "ROOT", theirs)
    another = commit(theirs, "another")
    assert described() == (another, False)
