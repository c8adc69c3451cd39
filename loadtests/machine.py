"""What a figure was measured on: hardware, versions, commit."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
PACKAGES = ("mmrag", "ray", "torch", "transformers", "numpy", "onnxruntime", "locust", "gevent")


def describe() -> dict[str, Any]:
    """This machine and what is installed on it; the service may run elsewhere.

    `commit` is the last one that others have, too: those after it may get other names, or never be seen. `is_modified`:
    what was measured is not that commit.
    """
    commit, head = _last_shared_commit(), _output("git", "rev-parse", "HEAD")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version()} | _versions(),
        "commit": commit[:12],
        "is_modified": commit != head or bool(_output("git", "status", "--porcelain", "--untracked-files=no")),
    }


def _last_shared_commit() -> str:
    return _output("git", "merge-base", "HEAD", "@{upstream}") or _output("git", "rev-parse", "HEAD")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
