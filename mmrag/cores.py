"""How many cores this process may use."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def num_cores(quota: Path = _QUOTA) -> int:
    """Those it may run on, or fewer where its container is given less of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        granted, period = quota.read_text().split()
        return max(1, min(cores, round(int(granted) / int(period))))
    except (OSError, ValueError):  # no container, or "max"
        return cores
