"""One run of load: the clock, what is sent, and the record of what became of it."""

import dataclasses
import time
from pathlib import Path

import gevent
import orjson

from loadtests.calls import Call, Caller
from loadtests.progress import Progress
from loadtests.recording import LOAD, REQUESTS, write
from loadtests.scenarios import WARM_UP_REQUESTS, Scenario
from loadtests.workload import INGESTED_ID, NUM_INGESTED_IDS, Request, Workload


class Load:
    """One run: what is sent, and what became of it."""

    def __init__(self, scenario: Scenario, caller: Caller, workload: Workload, record: Path | None = None):
        if scenario.peak is None:
            raise ValueError(f"[{scenario.name}] goes by what the service manages: name a --peak")
        self.scenario = scenario
        self.workload = workload
        self.started_s: float | None = None
        self.num_in_flight = 0
        self.is_stopped = False
        self._caller = caller
        self._progress = Progress(scenario.duration_s, scenario.unit)
        self._record = record
        self._file = (record / REQUESTS).open("wb") if record else None

    def warm_up(self) -> None:
        """Send a few requests of each kind that nobody counts."""
        for kind in self.scenario.mix:
            for _ in range(WARM_UP_REQUESTS):
                self._caller.send(self.workload.request(kind), time.time(), 0)

    def start(self) -> None:
        """The clock starts; further calls change nothing."""
        if self.started_s is None:
            self.started_s = time.time()
            gevent.spawn(self._show_progress)

    @property
    def elapsed_s(self) -> float:
        return time.time() - self.started_s if self.started_s else 0.0

    @property
    def is_over(self) -> bool:
        return self.is_stopped or self.elapsed_s >= self.scenario.duration_s

    def send(self, request: Request, due_s: float) -> Call:
        """Send, note and count one request."""
        self.num_in_flight += 1
        try:
            call = self._caller.send(request, due_s, self.scenario.load_at(due_s - self.started_s))
        finally:
            self.num_in_flight -= 1
        self._progress.add(call)
        if self._file:
            self._file.write(orjson.dumps(dataclasses.asdict(call) | {"outcome": call.outcome}) + b"\n")
        return call

    def end(self) -> None:
        """Close the record, and clear away what was written to the service."""
        if self._file:
            self._file.close()
        if self._record and self.started_s is not None:
            write(self._record / LOAD, {"started_s": self.started_s, "ended_s": time.time()})
        if "ingest" in self.scenario.mix:
            for number in range(NUM_INGESTED_IDS):
                self._caller.delete(f"/v1/documents/{INGESTED_ID.format(number)}")

    def _show_progress(self) -> None:
        while not self.is_over or self.num_in_flight:
            gevent.sleep(1)
            self._progress.show(self.elapsed_s, self.scenario.load_at(self.elapsed_s), self.num_in_flight)
