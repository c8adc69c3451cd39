"""Whether the processes live that nothing works without."""

import time

from deployments import processes

PATIENCE_S = {"gcs_server": 0.0, "raylet": 0.0, "ray::ServeController": 60.0}
"""Ray's own processes, and how long each may be gone: Serve's controller is started again by Ray, the others never."""


class VitalProcesses:
    """Watches those below the process `ancestor`, each from when it first appears."""

    def __init__(self, ancestor: int):
        self._ancestor = ancestor
        self._pids: dict[str, int] = {}
        self._gone_since_s: dict[str, float] = {}

    def lost(self) -> str | None:
        """The name of one that has been gone for too long, with the process id it had; None while all is well."""
        now_s = time.monotonic()
        for name, patience_s in PATIENCE_S.items():
            last_pid = self._pids.get(name)
            if self._is_alive(name) or last_pid is None:
                self._gone_since_s.pop(name, None)
            elif now_s - self._gone_since_s.setdefault(name, now_s) >= patience_s:
                return f"{name.removeprefix('ray::')} (process {last_pid})"
        return None

    def _is_alive(self, name: str) -> bool:
        if name in self._pids and processes.is_running(self._pids[name]):
            return True
        for pid in processes.descendants_of(self._ancestor):
            program = processes.command_of(pid, max_chars=1000).split()[0].rpartition("/")[2]
            if program.startswith(name) and processes.is_running(pid):
                self._pids[name] = pid
                return True
        return False
