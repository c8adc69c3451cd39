"""What an operator lives through: processes of a running service are killed, one after the other, the last for good."""

import os
import re
import signal
from pathlib import Path

import httpx
import pytest

from deployments import processes
from mmrag.client import Client
from tests.deployments.running import Running, pids_of, service_with_zubrovia, write_config
from tests.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def service(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    config = write_config(folder, models, {"model": str(models / "fusion_decoder")}, Retriever=2)
    with service_with_zubrovia(config, folder) as running:
        yield running


def logs_of(service: Running) -> Path:
    return Path(re.search(r"logs in (\S+)", service.output)[1])


def answers(service: Running) -> bool:
    try:
        return httpx.get(f"{service.url}/v1/models", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def kill(service: Running, name: str) -> list[int]:
    pids = pids_of(service, name)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids


def test_what_happens_is_in_the_logs_at_once_where_it_said(service):
    httpx.get(f"{service.url}/v1/documents/nothing")
    [written] = [path.read_text() for path in logs_of(service).glob("serve/replica_mmrag_Ingress_*.log")]
    assert re.search(r"GET /v1/documents/{document_id:path} 404 ", written)


def test_a_replica_lost_under_way_costs_no_answer(service):
    os.kill(pids_of(service, "ServeReplica:mmrag:Retriever")[0], signal.SIGKILL)
    with Client(service.url) as client:
        for _ in range(20):
            found = client.search("What is the capital of Zubrovia?", top_k=1)
            assert found["passages"][0]["document_id"] == "zubrovia" and not found["degraded"]
    until(lambda: len(pids_of(service, "ServeReplica:mmrag:Retriever")) == 2)


def test_a_controller_that_dies_is_missed_by_no_request(service):
    [killed] = kill(service, "ray::ServeController")
    while pids_of(service, "ray::ServeController") in ([], [killed]):
        assert answers(service)


@pytest.mark.parametrize("name", ["haproxy -db", "ray::HAProxyManager"])
def test_a_proxy_that_dies_comes_back(service, name):
    if "haproxy" not in " ".join(processes.command_of(pid) for pid in processes.descendants_of(service.process.pid)):
        pytest.skip("no haproxy on this machine")
    killed = set(kill(service, name))
    until(lambda: set(pids_of(service, name)) - killed)
    until(lambda: answers(service))


def test_without_ray_it_ends_says_why_and_leaves_its_logs_and_nothing_else(service):
    directory, below = service.directory(), processes.descendants_of(service.process.pid)
    kill(service, "/raylet/raylet ")
    assert service.process.wait(30) == 1
    assert "it lost raylet" in service.output
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}")]
    assert not os.path.exists(directory)
    assert processes.is_port_free("127.0.0.1", service.port)
    assert (logs_of(service) / "raylet.out").is_file()
