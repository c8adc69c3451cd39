"""Servers under comparison: started, frozen while another's turn is measured, and ended with all they started."""

import contextlib
import http.client
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from deployments.ports import free_port

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 240
STOP_TIMEOUT_S = 40
KILL_TIMEOUT_S = 10
FREEZE_TIMEOUT_S = 5.0
SETTLE_S = 1.0
"""What was frozen catches up with its timers."""


class DoesNotStart(Exception):
    """A server ended, or never answered."""


class Server:
    """A process with a port, and all that it started."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path, ready_path: str = "/"):
        self.name, self.port, self._log = name, free_port(), log
        self._ready = f"http://127.0.0.1:{self.port}{ready_path}"
        filled = [part.replace("{port}", str(self.port)) for part in command]
        with log.open("w") as output:
            self._process = subprocess.Popen(
                filled, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._root = psutil.Process(self._process.pid)
        self._known = {self._root}

    def wait_until_ready(self) -> None:
        """Raises DoesNotStart with the end of its log."""
        until_s = time.monotonic() + START_TIMEOUT_S
        while not _answers(self._ready):
            self.processes()
            if (has_ended := self._process.poll() is not None) or time.monotonic() > until_s:
                why = "it ended" if has_ended else f"not ready after {START_TIMEOUT_S} s"
                last = self._log.read_text(errors="replace").splitlines()[-5:]
                raise DoesNotStart(f"{why}: {' / '.join(line.strip() for line in last) or 'it said nothing'}")
            time.sleep(0.3)

    def processes(self) -> list[psutil.Process]:
        """All that run now, those whose parent has ended, too."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._known.update(self._root.children(recursive=True))
        self._known = set(filter(_is_running, self._known))
        return list(self._known)

    def clock(self, replica: str) -> Callable[[], tuple[float, float]]:
        """Tells the processor seconds spent so far by all that run now, and by the replicas of one deployment.

        Who runs is found out here, which takes a while; the clock itself is quick.
        """
        everything = self.processes()
        replicas = [process for process in everything if _is_replica(process, replica)]
        return lambda: (sum(map(_spent_s, everything)), sum(map(_spent_s, replicas)))

    def freeze(self) -> None:
        """Returns when all of it has stopped, or could by then."""
        self._signal(signal.SIGSTOP)
        until_s = time.monotonic() + FREEZE_TIMEOUT_S
        while not all(map(_is_stopped, self.processes())) and time.monotonic() < until_s:
            time.sleep(0.01)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Inside, this server runs."""
        self._signal(signal.SIGCONT)
        time.sleep(SETTLE_S)
        try:
            yield
        finally:
            self.freeze()

    def stop(self) -> None:
        """End it in good order where it can, and then whatever of it is left."""
        self._signal(signal.SIGCONT)
        self._process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        finally:
            left = self.processes()
            self._signal(signal.SIGKILL)
            self._process.wait()
            psutil.wait_procs(left, KILL_TIMEOUT_S)

    def _signal(self, number: int) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)


def busy_cores() -> tuple[float, float]:
    """(processor seconds spent by the whole machine, seconds on the clock); two of these make a mean."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - getattr(times, "guest", 0) - times.guest_nice, time.perf_counter()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status == 200
    except (OSError, http.client.HTTPException):
        return False


def _is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _spent_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
        return times.user + times.system
    except psutil.Error:
        return 0.0


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def _is_replica(process: psutil.Process, name: str) -> bool:
    try:
        return f":{name}" in " ".join(process.cmdline())
    except psutil.Error:
        return False
