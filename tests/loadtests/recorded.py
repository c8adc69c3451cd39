"""A recording as a load test would leave it, of a service that behaves as told."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from loadtests import shapes
from loadtests.scenarios import Scenario, load_scenarios

STARTED_S = 1_700_000_000.0
MACHINE = {
    "processor": "a <quick> processor",
    "cores": 2,
    "memory_gb": 8.0,
    "gpus": [],
    "system": "Linux",
    "load_before": 0.1,
    "versions": {"python": "3.11"},
    "commit": "abc123",
    "is_modified": False,
}
COMPONENTS = {"TextEncoder": 1, "FusionDecoder": 2}

Service = Callable[[float, float], dict]
"""Due time and load -> what differs from a call that is answered within 100 ms."""


def scenario(name: str = "text", **changes) -> Scenario:
    return dataclasses.replace(load_scenarios()[name], **changes)


def record(directory: Path, tested: Scenario, service: Service, has_components: bool = True) -> Path:
    """Write the recording of an open loop; every kind of the mix in turn."""
    directory.mkdir(exist_ok=True)
    run = {
        "url": "http://127.0.0.1:8000",
        "is_own_service": True,
        "watched": "the service's processes on this machine",
        "machine": MACHINE,
        "scenario": dataclasses.asdict(tested),
    }
    (directory / "run.json").write_text(json.dumps(run))
    ended_s = STARTED_S + tested.duration_s
    (directory / "load.json").write_text(json.dumps({"started_s": STARTED_S, "ended_s": ended_s}))
    (directory / "requests.jsonl").write_text("".join(json.dumps(call) + "\n" for call in _calls(tested, service)))
    if has_components:
        looks = [_look(second) for second in range(int(tested.duration_s))]
        (directory / "components.jsonl").write_text("".join(json.dumps(look) + "\n" for look in looks))
    return directory


def _calls(tested: Scenario, service: Service):
    kinds = list(tested.mix)
    due = shapes.arrivals(shapes.SHAPES[tested.shape], tested.peak, tested.duration_s)
    for i, due_s in enumerate(due):
        load = tested.load_at(due_s)
        usual = {
            "kind": kinds[i % len(kinds)],
            "due_s": STARTED_S + due_s,
            "load": load,
            "late_ms": 0.2,
            "latency_ms": 100.0,
            "first_ms": None,
            "status": 200,
            "problem": "",
            "is_degraded": False,
            "stages_ms": {"text_encoder": 20.0, "retriever": 10.0, "decode": 60.0, "total": 90.0},
            "retry_after_s": None,
            "num_bytes": 900,
            "outcome": "answered",
        }
        yield usual | service(due_s, load)


def _look(second: int) -> dict:
    cores = {"TextEncoder": 0.4, "FusionDecoder": 0.9, "haproxy": 0.02}
    memory_mb = {"TextEncoder": 400.0, "FusionDecoder": 500.0, "haproxy": 20.0}
    return {"at_s": STARTED_S + second, "replicas": COMPONENTS, "cores": cores, "memory_mb": memory_mb}
