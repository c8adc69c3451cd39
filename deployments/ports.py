"""Whether a service can listen where it is told to; if not, why, and what to do."""

import errno
import json
import socket
import urllib.error
import urllib.request

from deployments import processes

MAX_PORT = 65_535
PROBE_TIMEOUT_S = 3


def port_problem(host: str, port: int) -> str | None:
    """What keeps a server from listening at `host`:`port`, and the mend, in words; None where nothing does."""
    if not 1 <= port <= MAX_PORT:
        return f"there is no port {port}: choose one from 1024 to {MAX_PORT}, {_as_option('port', 8000)}"
    try:
        if processes.is_port_free(host, port):
            return None
    except OSError as error:
        return _why_not(host, port, error)
    advice = f"choose another port: {_as_option('port', port + 1 if port < MAX_PORT else 8000)}"
    if serves_mmrag(host, port):
        return f"mmrag already serves at {address_of(host, port)}: ask there, stop it where it was started, or {advice}"
    holder = processes.holder_of(port)
    who = f"process {holder.pid} ({holder.command})" if holder else "a process of another user"
    return f"port {port} is in use by {who}. End it, or {advice}"


def address_of(host: str, port: int) -> str:
    """Where a service that listens at `host`:`port` is reached from this machine."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{reachable}:{port}"


def serves_mmrag(host: str, port: int) -> bool:
    """Whether what listens there is mmrag, ready or not."""
    try:
        with urllib.request.urlopen(f"{address_of(host, port)}/readyz", timeout=PROBE_TIMEOUT_S) as response:
            body = response.read(10_000)
    except urllib.error.HTTPError as error:
        body = error.read(10_000)
    except (OSError, ValueError):
        return False
    try:
        return "components" in json.loads(body)
    except (ValueError, TypeError):
        return False


def _why_not(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL):
        here = f"{_as_option('host', '127.0.0.1')} (from this machine only) or 0.0.0.0 (from everywhere)"
        return f"{host} is no address of this machine: choose {here}"
    if error.errno == errno.EACCES:
        return f"port {port} is the system's own: choose one from 1024 to {MAX_PORT}, {_as_option('port', 8000)}"
    return f"cannot listen at {host}:{port}: {error.strerror or error}"


def _as_option(name: str, value: object) -> str:
    return f"mmrag serve --{name} {value} (make serve {name.upper()}={value})"
