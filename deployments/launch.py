"""`mmrag serve`: a service of its own on this machine, from start to end.

This process only watches: the service runs in a child, `deployments.service`, with Ray's processes below it. Whatever
happens, at the end none of them is left, nor their ports and files.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from deployments import narration, processes, run_logs
from deployments.fast_path import environment
from deployments.narration import say
from deployments.ports import METRICS_PORT, metrics_problem, port_problem, usual_metrics_port
from deployments.run_directory import RunDirectory, clean_up_after_killed_runs
from deployments.vital import VitalProcesses

LOGS = Path(".mmrag/logs")
"""Relative to the configuration, as the knowledge base is."""

WATCH_PERIOD_S = 1.0
GRACE_S = 8.0
"""How long requests in flight and Ray itself may take to finish, once asked to stop."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; returns the exit status."""
    options = _parser().parse_args(arguments)
    narration.begin()
    clean_up_after_killed_runs()
    if problem := port_problem(options.host, options.port) or metrics_problem(options.metrics_port, options.port):
        print(problem, file=sys.stderr)
        return 1
    options.metrics_port = options.metrics_port or usual_metrics_port(options.port)
    return Launcher(options).run()


class Launcher:
    """One run: a directory of its own, the service's process, and their end."""

    def __init__(self, options: argparse.Namespace):
        self._options = options
        self._stop_signal: int | None = None
        self._run_directory = RunDirectory()
        self._directory = self._run_directory.path
        self._vital = VitalProcesses(os.getpid())

    def run(self) -> int:
        processes.adopt_orphans()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._announce_logs()
            child = self._start()
            lost = self._watch(child)
            if self._stop_signal is not None:
                self._stop(child)
                return 0
            if lost:
                print(_why_it_ended(lost), file=sys.stderr, flush=True)
            return 1
        finally:
            self._sweep()

    def _announce_logs(self) -> None:
        home = self._options.config.resolve().parent / LOGS
        try:
            say(f"logs in {run_logs.announce(self._directory, home)}")
        except OSError as error:
            say(f"logs in {self._directory}/session_latest/logs, deleted at the stop: {home}: {error.strerror}")

    def _watch(self, child: subprocess.Popen) -> str | None:
        """Returns when the service is to stop or has stopped; the process whose loss was the reason, if that it was."""
        watched_s, has_ray = 0.0, self._directory / "ray-started"
        while self._stop_signal is None:
            time.sleep(0.1)
            self._watch_make()
            if child.poll() is not None:
                return (has_ray.exists() and self._vital.lost()) or _killed(child)
            if has_ray.exists() and time.monotonic() - watched_s > WATCH_PERIOD_S:
                watched_s = time.monotonic()
                if lost := self._vital.lost():
                    return lost
        return None

    def _start(self) -> subprocess.Popen:
        options = self._options
        command = [sys.executable, "-m", "deployments.service", str(self._directory)]
        command += [options.host, str(options.port), str(options.metrics_port)]
        command += [str(options.config.resolve())]
        root = str(Path(__file__).resolve().parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        settings = {"MMRAG_RUN": str(self._directory), "PYTHONPATH": os.pathsep.join(paths)}
        # A session of its own: Ctrl-C in the terminal reaches this process alone, which then ends the others in order.
        # Nothing is ever written to its stdin: it stops when that is closed, by us or by our death.
        env = os.environ | environment(str(self._directory)) | settings
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, start_new_session=True)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop_signal is not None:  # asked twice: at once
            processes.end_descendants()
        self._stop_signal = number

    def _watch_make(self) -> None:
        # `make` told to stop by SIGINT alone waits for its recipe without passing the signal on. Other parents, such as
        # a test that starts a service, keep signals back for moments that mean nothing, as while they start a thread.
        parent = os.getppid()
        waits = processes.name_of(parent) in ("make", "gmake") and processes.blocks_signal(parent, signal.SIGINT)
        if "MAKELEVEL" in os.environ and (parent == 1 or waits):
            self._stop_signal = signal.SIGINT

    def _stop(self, child: subprocess.Popen) -> None:
        say("stopping")
        if not (self._directory / "ready").exists():
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
        self._run_directory.remove()
        if left := processes.descendants_of(os.getpid()):
            say(f"could not end: {', '.join(map(str, left))}")
        elif self._stop_signal is not None:
            say("stopped: no process and no port is left behind")


def _killed(child: subprocess.Popen) -> str | None:
    if child.returncode >= 0:
        return None  # it has said why itself
    return f"the service's own process ({child.pid}, ended by {signal.Signals(-child.returncode).name})"


def _why_it_ended(lost: str) -> str:
    return (
        f"the service has ended: it lost {lost}, without which nothing works. Where memory is short, the kernel ends "
        "the largest process (free -m; dmesg | grep -i 'killed process'); else its last words are in the logs. "
        "Start it again with the same command."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mmrag serve", description="Serve over HTTP on this machine; Ctrl-C stops.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--metrics-port", type=int, help=f"for Prometheus (default {METRICS_PORT}, or any)")
    parser.add_argument("--config", type=Path, default=Path("serve_config.yaml"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
