"""A Ray of our own on this machine, with nothing in it that we do not use."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from deployments import processes
from deployments.narration import say
from mmrag.errors import ConfigurationError

LOGICAL_CPUS = 8
"""Ray places deployments by the cores they claim. On one machine all of them belong here, however few cores it has."""

MAX_TRIES = 4
"""Ray's processes give each other 15 to 30 s to start, which cannot be changed; each try finds more in memory."""

_UNUSED = ("dashboard/dashboard.py", "autoscaler/_private/monitor.py", "_private/log_monitor.py")
"""What every Ray starts: a dashboard (even where none is wanted), the autoscaler of clusters, and a reader of logs for
drivers that print them. Each takes a second of processor time to start and 80 MB to stay."""


def start_ray(run_directory: str, metrics_port: int) -> None:
    """Start Ray with its files in `run_directory`. On a busy machine it may be too slow for itself, and is tried again.

    Raises:
        ConfigurationError: it did not start.
    """
    for num_try in range(1, MAX_TRIES + 1):
        try:
            return _init(run_directory, metrics_port)
        except Exception as error:
            if "timed out" not in str(error).lower():
                raise
            _end_what_started()
            say(f"Ray did not start in time (try {num_try} of {MAX_TRIES}): {processes.machine_load()}")
    raise ConfigurationError("Ray does not start on this machine as it is: end what keeps it busy, and start again")


def _init(run_directory: str, metrics_port: int) -> None:
    import ray

    with _without_unused_processes():
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,  # it complains about the dashboard
            num_cpus=LOGICAL_CPUS,
            _temp_dir=run_directory,
            _node_ip_address="127.0.0.1",
            _metrics_export_port=metrics_port,
        )


def _end_what_started() -> None:
    import ray

    ray.shutdown()
    # The launcher adopts what loses its parent: what is left is below it, as we are.
    processes.end(set(processes.descendants_of(os.getppid())) - {os.getpid()})


@contextlib.contextmanager
def _without_unused_processes() -> Iterator[None]:
    """End the unused processes as they appear, before they cost anything."""
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(0.05):
            processes.end(pid for pid in _children() if _is_unused(pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_done.set()
        watcher.join()
        processes.end(pid for pid in _children() if _is_unused(pid))


def _children() -> list[int]:
    pids = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended
            pids += path.read_text().split()
    return [int(pid) for pid in pids]


def _is_unused(pid: int) -> bool:
    command = processes.command_of(pid, max_chars=1000)
    return any(name in command for name in _UNUSED)
