"""`mmrag serve`: a service of its own on this machine, from start to end.

This process only watches: the service runs in a child, `deployments.service`, with Ray's processes below it. Whatever
happens, at the end none of them is left, nor their ports and files.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deployments import processes
from deployments.fast_path import environment
from deployments.ports import port_problem

RUN_ROOT = "/tmp"  # not $TMPDIR: sockets lie in it, and their paths must be short
RUN_PREFIX = "mmrag-"
GRACE_S = 8.0
"""How long requests in flight and Ray itself may take to finish, once asked to stop."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; returns the exit status."""
    options = _parser().parse_args(arguments)
    _say_when_started()
    clean_up_after_killed_runs()
    if problem := port_problem(options.host, options.port):
        print(problem, file=sys.stderr)
        return 1
    return Launcher(options).run()


class Launcher:
    """One run: a directory of its own, the service's process, and their end."""

    def __init__(self, options: argparse.Namespace):
        self._options = options
        self._stop_signal: int | None = None
        self._directory = tempfile.mkdtemp(prefix=RUN_PREFIX, dir=RUN_ROOT)
        (Path(self._directory) / "launcher").write_text(str(os.getpid()))

    def run(self) -> int:
        processes.adopt_orphans()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            child = self._start()
            while child.poll() is None and self._stop_signal is None:
                time.sleep(0.1)
                self._watch_make()
            if self._stop_signal is not None:
                self._stop(child)
                return 0
            return child.returncode or 1
        finally:
            self._sweep()

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "deployments.service", self._directory]
        command += [self._options.host, str(self._options.port), str(self._options.config.resolve())]
        root = str(Path(__file__).resolve().parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        settings = {"MMRAG_RUN": self._directory, "PYTHONPATH": os.pathsep.join(paths)}
        # A session of its own: Ctrl-C in the terminal reaches this process alone, which then ends the others in order.
        # Nothing is ever written to its stdin: it stops when that is closed, by us or by our death.
        env = os.environ | environment(self._directory) | settings
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, start_new_session=True)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop_signal is not None:  # asked twice: at once
            processes.end_descendants()
        self._stop_signal = number

    def _watch_make(self) -> None:
        # `make` told to stop by SIGINT alone waits for its recipe without passing the signal on.
        parent = os.getppid()
        if "MAKELEVEL" in os.environ and (parent == 1 or processes.blocks_signal(parent, signal.SIGINT)):
            self._stop_signal = signal.SIGINT

    def _stop(self, child: subprocess.Popen) -> None:
        say("stopping")
        if not (Path(self._directory) / "ready").exists():
            return  # nothing has been served yet, so there is nothing to finish
        child.stdin.close()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            say("it does not stop by itself: ending it")

    def _sweep(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        processes.end_descendants()
        remove(self._directory)
        if left := processes.descendants_of(os.getpid()):
            say(f"could not end: {', '.join(map(str, left))}")
        elif self._stop_signal is not None:
            say("stopped: no process and no port is left behind")


def clean_up_after_killed_runs() -> None:
    """End what runs of this user left whose launcher was killed, and say so."""
    for directory in sorted(Path(RUN_ROOT).glob(f"{RUN_PREFIX}*")):
        if directory.stat().st_uid != os.getuid() or _has_launcher(directory):
            continue
        left = processes.belonging_to(str(directory))
        for pid in left:
            say(f"ending process {pid}, left over from an earlier run: {processes.command_of(pid)}")
        processes.end(left)
        remove(str(directory))


def remove(directory: str) -> None:
    """Delete a run's directory; what appears in it meanwhile is deleted too."""
    for _ in range(5):
        shutil.rmtree(directory, ignore_errors=True)
        if not os.path.exists(directory):
            return
        time.sleep(0.1)


def say(text: str) -> None:
    """One line about what is happening, with the seconds since the start."""
    elapsed_s = time.time() - float(os.environ["MMRAG_STARTED_S"])
    print(f"{elapsed_s:6.1f} s  {text}", flush=True)


def _say_when_started() -> None:
    os.environ["MMRAG_STARTED_S"] = str(time.time())


def _has_launcher(directory: Path) -> bool:
    try:
        pid = int((directory / "launcher").read_text())
    except (OSError, ValueError):
        return time.time() - directory.stat().st_mtime < 5  # it is just being made
    return processes.is_running(pid) and "launch" in processes.command_of(pid)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mmrag serve", description="Serve over HTTP on this machine; Ctrl-C stops.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--config", type=Path, default=Path("serve_config.yaml"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
