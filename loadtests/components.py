"""What the service is made of while it runs: replicas, processor time and memory of each component.

From Ray's dashboard where there is one, else from the processes of this machine; of a service elsewhere, nothing.
"""

import dataclasses
import json
import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

APPLICATION = "mmrag"
EVERY_S = 1.0
TIMEOUT_S = 2.0
LAUNCHER = "deployments.launch"
_REPLICA = re.compile(r"ServeReplica:[^:]+:(\w+)")
_OTHERS = {"haproxy": "haproxy", LAUNCHER: "launcher", "deployments.service": "launcher", "ray": "Ray"}


@dataclass
class Look:
    """One look at the service. `cores`: processor seconds a second, since the last look."""

    at_s: float
    replicas: dict[str, int] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)


class Dashboard:
    """Replicas as the REST API of Ray Serve tells them: works for clusters, too."""

    def __init__(self, url: str):
        self._url = f"{url.rstrip('/')}/api/serve/applications/"

    def look(self) -> Look:
        """Raises OSError, ValueError or KeyError where the dashboard does not tell."""
        with urllib.request.urlopen(self._url, timeout=TIMEOUT_S) as response:
            application = json.load(response)["applications"][APPLICATION]
        deployments = application["deployments"].items()
        return Look(
            time.time(),
            {name: sum(r["state"] == "RUNNING" for r in deployment["replicas"]) for name, deployment in deployments},
        )


class Processes:
    """Replicas, processor time and memory of a service of this machine, as /proc tells them."""

    def __init__(self, root: psutil.Process):
        self._root = root
        self._spent: dict[int, tuple[float, float]] = {}

    def look(self) -> Look:
        """Raises psutil.NoSuchProcess once the service has ended."""
        look = Look(time.time())
        replicas: Counter[str] = Counter()
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                name, is_replica = component_of(" ".join(process.cmdline()))
                times, memory_mb = process.cpu_times(), process.memory_info().rss / 1e6
            except psutil.Error:
                continue  # it has just ended
            replicas[name] += is_replica
            look.cores[name] = look.cores.get(name, 0) + self._cores(process.pid, look.at_s, times.user + times.system)
            look.memory_mb[name] = look.memory_mb.get(name, 0) + memory_mb
        look.replicas = {name: num for name, num in replicas.items() if num}
        return look

    def _cores(self, pid: int, at_s: float, spent_s: float) -> float:
        before_s, spent_before_s = self._spent.get(pid, (at_s, spent_s))
        self._spent[pid] = at_s, spent_s
        return (spent_s - spent_before_s) / (at_s - before_s) if at_s > before_s else 0.0


class Watch:
    """Looks at the service every second from a thread and writes what it sees. Use it in a `with` statement."""

    def __init__(self, look: Callable[[], Look], path: Path):
        self._look = look
        self._path = path
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        with self._path.open("w") as file:
            while not self._is_over.wait(EVERY_S):
                try:
                    look = self._look()
                except (OSError, ValueError, KeyError, psutil.Error):
                    continue  # seen or not, the load goes on
                file.write(json.dumps(dataclasses.asdict(look)) + "\n")


def find(port: int, dashboard: str | None = None) -> tuple[Callable[[], Look] | None, str]:
    """How to look at the service that listens at `port` here, and from where in words; None where that cannot be."""
    if dashboard:
        try:
            Dashboard(dashboard).look()
            return Dashboard(dashboard).look, f"Ray's dashboard at {dashboard}"
        except (OSError, ValueError, KeyError) as error:
            return None, f"nothing: the dashboard at {dashboard} does not tell ({type(error).__name__}: {error})"
    if root := _launcher_above(port):
        return Processes(root).look, "the service's processes on this machine"
    return None, "nothing: the service was not started by `mmrag serve` on this machine, and no --dashboard was given"


def component_of(command: str) -> tuple[str, bool]:
    """The component that a command line belongs to, and whether it is a replica of it."""
    if replica := _REPLICA.search(command):
        return replica[1], True
    return next((name for part, name in _OTHERS.items() if part in command), "other"), False


def _launcher_above(port: int) -> psutil.Process | None:
    try:
        listening = [c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port]
        for pid in filter(None, listening):
            process = psutil.Process(pid)
            for candidate in [process, *process.parents()]:
                if LAUNCHER in candidate.cmdline():
                    return candidate
    except psutil.Error:
        pass
    return None
