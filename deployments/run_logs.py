"""The logs of a run: in its directory while it lasts, kept at the same path when that directory goes."""

import os
import shutil
import time
from pathlib import Path

MAX_KEPT = 5
"""Runs whose logs are kept: enough to see why the service was started again and again."""

_NOTE = "logs-path"


def announce(run_directory: Path, home: Path) -> Path:
    """Make the path in `home` at which this run's logs lie from now on. Raises OSError where that cannot be."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{os.getpid()}"
    path.symlink_to(_live(run_directory))
    (run_directory / _NOTE).write_text(str(path))
    return path


def keep(run_directory: Path) -> None:
    """Move the logs to the path that was announced, and delete those of all but the last runs. Raises OSError."""
    note = run_directory / _NOTE
    if not note.exists():
        return
    path = Path(note.read_text())
    path.unlink(missing_ok=True)
    if _live(run_directory).exists():
        shutil.move(_live(run_directory).resolve(), path)
    _delete_old(path.parent)


def _delete_old(home: Path) -> None:
    links = [path for path in home.iterdir() if path.is_symlink()]
    for link in links:
        if not link.readlink().parents[1].exists():  # a run that the machine did not survive
            link.unlink()
    for folder in sorted(set(home.iterdir()) - set(links))[:-MAX_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _live(run_directory: Path) -> Path:
    return run_directory / "session_latest" / "logs"
