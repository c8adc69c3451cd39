"""Whether a service can listen where it is told to; if not, why, and what to do."""

import errno
import json
import random
import socket
import urllib.error
import urllib.request

from deployments import processes
from deployments.narration import say

LOCALHOST = "127.0.0.1"
MAX_PORT = 65_535
METRICS_PORT = 8080
"""For Prometheus, as on every node of a cluster: see cluster/prometheus.yml."""

_ASSIGNED_BY_NOBODY = 20_000, 32_000
"""Below the ports that Linux gives to those who ask for any, from 32,768, and to programs by name."""

PROBE_TIMEOUT_S = 3


def free_port() -> int:
    """A port that nobody listens on now, nor is given to who asks for any: that it is still free when it is used."""
    while not processes.is_port_free(LOCALHOST, port := random.randint(*_ASSIGNED_BY_NOBODY)):
        pass
    return port


def port_problem(host: str, port: int, option: str = "port") -> str | None:
    """What keeps a server from listening at `host`:`port`, and the mend, in words; None where nothing does.

    `option`: of the command line, with which the port is chosen.
    """
    another = _as_option(option, 8000 if option == "port" else METRICS_PORT)
    if not 1 <= port <= MAX_PORT:
        return f"there is no port {port}: choose one from 1024 to {MAX_PORT}, {another}"
    try:
        if processes.is_port_free(host, port):
            return None
    except OSError as error:
        return _why_not(host, port, error, another)
    advice = f"choose another port: {_as_option(option, port + 1) if port < MAX_PORT else another}"
    if serves_mmrag(host, port):
        return f"mmrag already serves at {address_of(host, port)}: ask there, stop it where it was started, or {advice}"
    holder = processes.holder_of(port)
    who = f"process {holder.pid} ({holder.command})" if holder else "a process of another user"
    return f"port {port} is in use by {who}. End it, or {advice}"


def metrics_problem(wanted: int | None, serving_port: int) -> str | None:
    """The same for the port for Prometheus, where one is wanted."""
    if wanted is None:
        return None
    if wanted == serving_port:
        return f"port {wanted} cannot be for requests and for metrics: choose another, or leave --metrics-port out"
    return port_problem(LOCALHOST, wanted, "metrics-port")


def usual_metrics_port(serving_port: int) -> int:
    """`METRICS_PORT`; any other where requests are served there, or somebody has it, which is said."""
    if serving_port == METRICS_PORT:
        return free_port()
    if problem := port_problem(LOCALHOST, METRICS_PORT, "metrics-port"):
        say(f"metrics at another port: {problem}")
        return free_port()
    return METRICS_PORT


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


def _why_not(host: str, port: int, error: OSError, another: str) -> str:
    if isinstance(error, socket.gaierror) or error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL):
        here = f"{_as_option('host', '127.0.0.1')} (from this machine only) or 0.0.0.0 (from everywhere)"
        return f"{host} is no address of this machine: choose {here}"
    if error.errno == errno.EACCES:
        return f"port {port} is the system's own: choose one from 1024 to {MAX_PORT}, {another}"
    return f"cannot listen at {host}:{port}: {error.strerror or error}"


def _as_option(name: str, value: object) -> str:
    made = f" (make serve {name.upper()}={value})" if name in ("host", "port") else ""
    return f"mmrag serve --{name} {value}{made}"
