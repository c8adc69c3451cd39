"""What can be seen of a service from outside."""

import json
import subprocess
import time

import psutil
import pytest

from deployments.ports import free_port
from loadtests import components
from loadtests.components import Dashboard, Processes, component_of, find
from tests.conftest import serving

STATUS = {
    "applications": {
        "mmrag": {
            "deployments": {
                "TextEncoder": {"replicas": [{"state": "RUNNING"}, {"state": "RUNNING"}, {"state": "STARTING"}]},
                "Ingress": {"replicas": [{"state": "RUNNING"}]},
            }
        }
    }
}


@pytest.fixture
def replica():
    """A process with the name that Ray gives a replica's."""
    process = subprocess.Popen(["bash", "-c", "exec -a ServeReplica:mmrag:TextEncoder sleep 60"])
    while "ServeReplica" not in " ".join(psutil.Process(process.pid).cmdline()[:1]):
        pass
    yield process
    process.kill()
    process.wait()


def dashboard(status: dict):
    async def answer(scope, receive, send):
        assert scope["path"] == "/api/serve/applications/"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(status).encode()})

    return answer


def test_the_dashboard_tells_the_replicas_that_run():
    with serving(dashboard(STATUS)) as url:
        assert Dashboard(url).look().replicas == {"TextEncoder": 2, "Ingress": 1}
        look, watched = find(free_port(), url)
    assert look is not None and url in watched


def test_a_dashboard_that_does_not_know_the_application_is_said():
    with serving(dashboard({"applications": {}})) as url:
        look, watched = find(free_port(), url)
    assert look is None and "does not tell" in watched


def test_the_processes_of_this_machine_tell_replicas_and_memory(replica):
    look = Processes(psutil.Process(replica.pid)).look()
    assert look.replicas == {"TextEncoder": 1}
    assert look.memory_mb["TextEncoder"] > 0


def test_processor_time_is_what_was_spent_since_the_last_look():
    busy = subprocess.Popen(["bash", "-c", "while :; do :; done"])
    try:
        processes = Processes(psutil.Process(busy.pid))
        first = processes.look()
        time.sleep(0.5)
        second = processes.look()
        assert first.cores == {"other": 0.0}
        assert second.cores["other"] > 0
    finally:
        busy.kill()
        busy.wait()


def test_nobody_at_the_port_means_nothing_to_see():
    look, watched = find(free_port())
    assert look is None and watched.startswith("nothing")


@pytest.mark.parametrize(
    ("command", "component"),
    [
        ("ray::ServeReplica:mmrag:FusionDecoder.handle_request", ("FusionDecoder", True)),
        ("haproxy -f /tmp/mmrag-x/haproxy.cfg", ("haproxy", False)),
        ("python -m deployments.service /tmp/mmrag-x", ("launcher", False)),
        ("/venv/lib/ray/core/src/ray/raylet/raylet --x", ("Ray", False)),
        ("sleep 3", ("other", False)),
    ],
)
def test_a_command_line_belongs_to_a_component(command, component):
    assert component_of(command) == component


def test_a_watch_writes_what_it_sees_and_survives_what_it_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(components, "EVERY_S", 0.01)
    looks = iter([OSError("gone"), components.Look(1.0, {"Ingress": 1})])

    def look():
        found = next(looks, components.Look(2.0))
        if isinstance(found, OSError):
            raise found
        return found

    path = tmp_path / "components.jsonl"
    with components.Watch(look, path):
        while path.read_text().count("\n") < 2 if path.exists() else True:
            pass
    assert json.loads(path.read_text().splitlines()[0])["replicas"] == {"Ingress": 1}
