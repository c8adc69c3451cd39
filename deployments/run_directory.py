"""The directory of a run: in use while its launcher lives, cleared away after it, by the next start if need be."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TextIO

from deployments import processes, run_logs
from deployments.narration import say

ROOT = Path("/tmp")  # not $TMPDIR: sockets lie in it, and their paths must be short
PREFIX = "mmrag-serve-"  # the scripts of cluster/ keep theirs beside it
MARK = "launcher"
"""The file that makes a directory one of ours. It holds the launcher's process id and is locked while that lives."""


class RunDirectory:
    """A new directory, in use until this process ends, however it ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=ROOT))
        self._mark = _locked_mark(self.path)

    def remove(self) -> None:
        """Delete it, but for its logs."""
        _remove(self.path)
        self._mark.close()


def clean_up_after_killed_runs() -> None:
    """End what runs of this user left whose launcher was killed, and say so. Whatever else lies there stays."""
    for mark in sorted(ROOT.glob(f"{PREFIX}*/{MARK}")):
        with contextlib.suppress(FileNotFoundError):  # another start clears it away just now
            if mark.parent.lstat().st_uid == os.getuid():
                _clear_unless_in_use(mark)


def _locked_mark(directory: Path) -> TextIO:
    # It gets its name when it is locked, so that nobody finds it unlocked before.
    unnamed = directory / f"{MARK}.new"
    mark = unnamed.open("w")
    fcntl.flock(mark, fcntl.LOCK_EX)
    mark.write(str(os.getpid()))
    mark.flush()
    unnamed.rename(directory / MARK)
    return mark


def _clear_unless_in_use(mark: Path) -> None:
    with mark.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        left = processes.belonging_to(str(mark.parent))
        for pid in left:
            say(f"ending process {pid}, left over from an earlier run: {processes.command_of(pid)}")
        processes.end(left)
        _remove(mark.parent)


def _remove(directory: Path) -> None:
    try:
        run_logs.keep(directory)
    except OSError as error:
        say(f"the logs of this run are lost: {error}")
    for _ in range(5):  # what ends meanwhile may still write there
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.1)
