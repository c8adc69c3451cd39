import http.server
import socket
import threading

import pytest

from deployments import narration, ports
from deployments.ports import (
    MAX_PORT,
    address_of,
    free_port,
    metrics_problem,
    port_problem,
    serves_mmrag,
    usual_metrics_port,
)


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


def test_a_port_that_was_asked_for_metrics_is_had_or_refused(taken):
    port = free_port()
    assert metrics_problem(None, port) is None and metrics_problem(free_port(), port) is None
    assert "for requests and for metrics" in metrics_problem(port, port)
    assert metrics_problem(99_999, port).startswith("there is no port 99999")
    problem = metrics_problem(taken, port)
    assert f"port {taken} is in use by process" in problem
    assert problem.endswith(f"choose another port: mmrag serve --metrics-port {taken + 1}")


def test_the_usual_port_for_metrics_gives_way_to_whoever_has_it_and_says_to_whom(taken, monkeypatch, capsys):
    monkeypatch.setenv("MMRAG_STARTED_S", "")  # given back at the end
    narration.begin()
    usual = free_port()
    monkeypatch.setattr(ports, "METRICS_PORT", usual)
    assert usual_metrics_port(serving_port=1) == usual
    assert usual_metrics_port(serving_port=usual) != usual
    assert not capsys.readouterr().out
    monkeypatch.setattr(ports, "METRICS_PORT", taken)
    assert usual_metrics_port(serving_port=1) != taken
    assert f"metrics at another port: port {taken} is in use by process" in capsys.readouterr().out
