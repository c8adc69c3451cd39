import http.server
import socket
import threading

import pytest

from deployments.fast_path import free_port
from deployments.ports import MAX_PORT, address_of, port_problem, serves_mmrag


@pytest.fixture
def taken():
    """A port at which somebody else's web server listens."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_a_free_port_is_no_problem():
    assert port_problem("127.0.0.1", free_port()) is None


@pytest.mark.parametrize("port", [99_999, 0, -1])
def test_a_number_that_is_no_port_is_said_to_be_none(port):
    assert port_problem("127.0.0.1", port).startswith(f"there is no port {port}: choose one from 1024 to {MAX_PORT}")


@pytest.mark.parametrize("host", ["1.2.3.4", "no-such-machine.invalid"])
def test_a_foreign_address_is_the_problem_not_the_port(host):
    problem = port_problem(host, free_port())
    assert problem.startswith(f"{host} is no address of this machine")
    assert "HOST=127.0.0.1" in problem and "PORT" not in problem


def test_whoever_has_the_port_is_named(taken):
    assert not serves_mmrag("127.0.0.1", taken)
    problem = port_problem("127.0.0.1", taken)
    assert f"port {taken} is in use by process" in problem and f"make serve PORT={taken + 1}" in problem


def test_a_second_start_is_told_of_the_first(url):
    port = int(url.rpartition(":")[2])
    assert port_problem("127.0.0.1", port).startswith(f"mmrag already serves at {url}: ask there")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert not serves_mmrag("127.0.0.1", silent.getsockname()[1])


def test_an_address_can_be_opened():
    assert address_of("0.0.0.0", 80) == "http://127.0.0.1:80" and address_of("::1", 80) == "http://[::1]:80"
