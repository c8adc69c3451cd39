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

from deployments import processes, run_logs
from deployments.fast_path import environment, free_port
from deployments.ports import port_problem
from deployments.vital import VitalProcesses

RUN_ROOT = "/tmp"  # not $TMPDIR: sockets lie in it, and their paths must be short
RUN_PREFIX = "mmrag-"
LOGS = Path(".mmrag/logs")
"""Relative to the configuration, as the knowledge base is."""

METRICS_PORT = 8080
"""As on every node of a cluster: see cluster/prometheus.yml."""

WATCH_PERIOD_S = 1.0
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
            say(f"logs in {run_logs.announce(Path(self._directory), home)}")
        except OSError as error:
            say(f"logs in {self._directory}/session_latest/logs, deleted at the stop: {home}: {error.strerror}")

    def _watch(self, child: subprocess.Popen) -> str | None:
        """Returns when the service is to stop or has stopped; the process whose loss was the reason, if that it was."""
        watched_s, has_ray = 0.0, Path(self._directory, "ray-started")
        while self._stop_signal is None:
            time.sleep(0.1)
            self._watch_make()
            if child.poll() is not None:
                return self._vital.lost() or _killed(child)
            if has_ray.exists() and time.monotonic() - watched_s > WATCH_PERIOD_S:
                watched_s = time.monotonic()
                if lost := self._vital.lost():
                    return lost
        return None

    def _start(self) -> subprocess.Popen:
        options = self._options
        command = [sys.executable, "-m", "deployments.service", self._directory]
        command += [options.host, str(options.port), str(metrics_port(options.metrics_port))]
        command += [str(options.config.resolve())]
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
        remove_run(self._directory)
        if left := processes.descendants_of(os.getpid()):
            say(f"could not end: {', '.join(map(str, left))}")
        elif self._stop_signal is not None:
            say("stopped: no process and no port is left behind")


def metrics_port(wanted: int) -> int:
    """The port for Prometheus: `wanted`, or any where another service has that."""
    if processes.is_port_free("127.0.0.1", wanted):
        return wanted
    port, holder = free_port(), processes.holder_of(wanted)
    say(f"port {wanted} is in use{f' by process {holder.pid}' if holder else ''}: metrics at port {port} instead")
    return port


def clean_up_after_killed_runs() -> None:
    """End what runs of this user left whose launcher was killed, and say so."""
    for directory in sorted(Path(RUN_ROOT).glob(f"{RUN_PREFIX}*")):
        if directory.stat().st_uid != os.getuid() or _has_launcher(directory):
            continue
        left = processes.belonging_to(str(directory))
        for pid in left:
            say(f"ending process {pid}, left over from an earlier run: {processes.command_of(pid)}")
        processes.end(left)
        remove_run(str(directory))


def remove_run(directory: str) -> None:
    """Delete a run's directory, but for its logs; what appears in it meanwhile is deleted too."""
    try:
        run_logs.keep(Path(directory))
    except OSError as error:
        say(f"the logs of this run are lost: {error}")
    for _ in range(5):
        shutil.rmtree(directory, ignore_errors=True)
        if not os.path.exists(directory):
            return
        time.sleep(0.1)


def say(text: str) -> None:
    """One line about what is happening, with the seconds since the start."""
    elapsed_s = time.time() - float(os.environ["MMRAG_STARTED_S"])
    print(f"{elapsed_s:6.1f} s  {text}", flush=True)


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
    parser.add_argument("--metrics-port", type=int, default=METRICS_PORT, help="for Prometheus")
    parser.add_argument("--config", type=Path, default=Path("serve_config.yaml"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
