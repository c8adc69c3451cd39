"""The guard in front of haproxy: where it listens, what it says, and that it ends with its parent."""

import json
import os
import signal
import socket
import subprocess
import sys
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from deployments.fast_path import haproxy_binary
from deployments.ports import free_port
from tests.waiting import until

CONFIG = """defaults
    mode http
    timeout connect 1s
    timeout client 2s
    timeout server 9s
    errorfile 502 /nowhere/500.http
    errorfile 503 /nowhere/500.http
frontend prometheus
    bind :{metrics}
frontend http_frontend
    bind {host}:{port}
    use_backend reader if {{ path /reads }}
    use_backend default_backend if {{ path /unknown }}
    default_backend nobody
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path not found."
backend reader
    server one 127.0.0.1:{reader}
backend nobody
    server gone 127.0.0.1:{nobody}
listen stats
  bind *:{stats}
  stats enable
"""

pytestmark = pytest.mark.skipif(haproxy_binary() is None, reason="needs haproxy")


@pytest.fixture
def reader():
    """A server that takes what it is sent, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def guard(tmp_path, reader):
    """Starts the guard from a parent of its own; returns (parent, port, path of the configuration)."""
    ports = {name: free_port() for name in ("metrics", "port", "nobody", "stats")}
    path = tmp_path / "haproxy.cfg"
    path.write_text(CONFIG.format(host="127.0.0.1", reader=reader.getsockname()[1], **ports))
    environment = os.environ | {
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports["metrics"]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports["stats"]),
        "MMRAG_HAPROXY": haproxy_binary(),
        "MMRAG_PYTHON": sys.executable,
    }
    script = Path("deployments/haproxy_guard").resolve()
    command = (
        f"import subprocess, time; subprocess.Popen([{str(script)!r}, '-db', '-f', {str(path)!r}]); time.sleep(99)"
    )
    parent = subprocess.Popen([sys.executable, "-c", command], env=environment)
    yield parent, ports["port"], path
    parent.kill()
    parent.wait()


def answer(port: int) -> httpx.Response | None:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v1/models")
    except httpx.TransportError:
        return None


def test_without_a_replica_it_says_so_in_our_json(guard):
    _, port, _ = guard
    until(lambda: answer(port) is not None)
    response = answer(port)
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "unavailable"
    assert response.headers["retry-after"] == "5"


def test_before_any_application_is_known_it_says_that_it_starts(guard):
    _, port, _ = guard
    until(lambda: answer(port) is not None)
    response = httpx.get(f"http://127.0.0.1:{port}/unknown")
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "unavailable"


def test_a_body_that_stops_is_refused_in_our_json(guard):
    _, port, _ = guard
    until(lambda: answer(port) is not None)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"POST /reads HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf")
        response = HTTPResponse(connection)
        response.begin()
        error = json.loads(response.read())["error"]
    assert response.status == 400
    assert response.headers["content-type"] == "application/json"
    assert error["type"] == "malformed_request" and "did not arrive" in error["message"] and error["param"] is None


def test_whoever_calls_is_told_by_the_address_whatever_they_say(guard, reader):
    _, port, _ = guard
    until(lambda: answer(port) is not None)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /reads HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 1.2.3.4\r\n\r\n")
        with reader.accept()[0] as received:
            head = received.recv(65_536).decode().lower()
    said = [line.partition(": ")[2] for line in head.splitlines() if line.startswith("x-forwarded-for")]
    assert said == ["1.2.3.4", "127.0.0.1"]  # the last counts


def test_statistics_are_for_this_machine_only(guard):
    _, port, path = guard
    until(lambda: answer(port) is not None)
    addresses = [line.split()[1] for line in path.read_text().splitlines() if line.strip().startswith("bind")]
    assert len(addresses) == 3
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_it_ends_when_its_parent_is_killed(guard):
    parent, port, _ = guard
    until(lambda: answer(port) is not None)
    parent.send_signal(signal.SIGKILL)
    until(lambda: answer(port) is None)


def test_the_address_that_was_configured_is_kept(tmp_path, monkeypatch):
    from deployments.haproxy_guard import make_safe

    monkeypatch.setenv("RAY_SERVE_HAPROXY_METRICS_PORT", "9101")
    monkeypatch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", "8404")
    path = tmp_path / "haproxy.cfg"
    path.write_text(CONFIG.format(host="*", metrics=9101, port=8000, nobody=1, reader=2, stats=8404))
    make_safe(str(path))
    make_safe(str(path))  # Ray writes the file anew for each reload; twice must do no harm
    text = path.read_text()
    assert "bind *:8000" in text and "bind 127.0.0.1:9101" in text and "bind 127.0.0.1:8404" in text
