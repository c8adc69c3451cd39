"""A run on disk, in a directory of its own: what was to be done, when it was done, and a line for each request and for
each look at the service."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUESTS = "requests.jsonl"
COMPONENTS = "components.jsonl"
RUN = "run.json"
LOAD = "load.json"


@dataclass
class Recorded:
    """What was recorded.

    Attributes:
        run: the scenario, where it ran, on what.
        started_s, ended_s: `time.time()` when the load began and when it was over.
        calls: `loadtests.calls.Call` as dictionaries, with `outcome`, in the order of their ends.
        components: `loadtests.components.Look` as dictionaries; empty where the service could not be looked at.
    """

    run: dict[str, Any]
    started_s: float
    ended_s: float
    calls: list[dict[str, Any]]
    components: list[dict[str, Any]]


def write(path: Path, content: dict[str, Any]) -> None:
    """A small file of the recording."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(directory: Path) -> Recorded:
    """What lies in a run's directory. Raises FileNotFoundError where no load was recorded."""
    run, load = (json.loads((directory / name).read_text(encoding="utf-8")) for name in (RUN, LOAD))
    calls, components = (list(_lines(directory / name)) for name in (REQUESTS, COMPONENTS))
    return Recorded(run, load["started_s"], load["ended_s"], calls, components)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.endswith("\n"))  # the last may be cut off
