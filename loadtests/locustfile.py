"""What users do, driven by Locust.

    make loadtest SCENARIO=mix    # headless, with a report
    python -m locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --web-host 127.0.0.1    # in Locust's page

An open loop sends each request at its time, whatever became of the earlier ones, and counts its latency from that
time: a service that stalls is charged for all who came meanwhile, and nobody coordinates with it by waiting. A closed
loop has so many callers, each of which waits for its answer.
"""

import os
import time
from pathlib import Path

import gevent
from gevent.pool import Pool
from locust import LoadTestShape, User, constant, events, task
from locust.exception import StopUser

from loadtests.calls import MAX_CONNECTIONS, Call, Caller
from loadtests.load import Load
from loadtests.scenarios import add_arguments, chosen
from loadtests.shapes import SHAPES, arrivals
from loadtests.workload import Request, Workload

LEAD_S = 0.05
"""A request is made ready this long before its time: making a picture takes milliseconds."""


class Guest(User):
    """Who sends requests; tells Locust of each."""

    abstract = True
    wait_time = constant(0)

    def send(self, request: Request, due_s: float) -> Call:
        """Send a request that was due then."""
        call = self.environment.load.send(request, due_s)
        problem = RuntimeError(f"{call.outcome}: {call.problem}") if call.problem else None
        figures = {"response_time": call.latency_ms, "response_length": call.num_bytes}
        self.environment.events.request.fire(
            request_type="POST", name=call.kind, exception=problem, context={}, url=request.path, **figures
        )
        return call


class Arrivals(Guest):
    """The open loop: one greenlet that starts each request at its time, and one for each request."""

    @task
    def come(self) -> None:
        load: Load = self.environment.load
        load.start()
        pool = Pool(MAX_CONNECTIONS)
        scenario = load.scenario
        for due_s in arrivals(SHAPES[scenario.shape], scenario.peak, scenario.duration_s):
            wait(load.started_s + due_s - LEAD_S)
            request = load.workload.mixed(scenario.mix)
            wait(load.started_s + due_s)
            if load.is_stopped:
                break
            pool.spawn(self.send, request, load.started_s + due_s)
        pool.join()
        raise StopUser


class Visitor(Guest):
    """The closed loop: asks, waits for the answer, asks again; comes back when told to if it was refused."""

    @task
    def ask(self) -> None:
        load: Load = self.environment.load
        load.start()
        if load.is_over:
            raise StopUser
        call = self.send(load.workload.mixed(load.scenario.mix), time.time())
        if call.outcome == "refused":
            gevent.sleep(call.retry_after_s or 1.0)


class Shape(LoadTestShape):
    """Tells Locust how many users there are, and when it is over."""

    def reset_time(self) -> None:
        super().reset_time()
        self._load: Load | None = None

    def tick(self) -> tuple[int, float, list[type[User]]] | None:
        if self._load is None:
            self._load = prepare(self.runner.environment)
        load = self._load
        if load.is_over and not load.num_in_flight:
            return None
        if load.scenario.loop == "open":
            return 1, 1, [Arrivals]
        num_callers = int(load.scenario.load_at(load.elapsed_s))
        return num_callers, num_callers, [Visitor]


def prepare(environment) -> Load:
    """The run that the arguments ask for, warmed up."""
    options = environment.parsed_options
    scenario = chosen(options)
    caller = Caller(environment.host, os.environ.get("MMRAG_API_KEY"))
    workload = Workload(int(options.seed) if options.seed not in (None, "") else time.time_ns(), scenario.zipf)
    environment.load = Load(scenario, caller, workload, Path(options.record) if options.record else None)
    environment.load.warm_up()
    return environment.load


def wait(until_s: float) -> None:
    """Sleep until a time; at once where it has passed."""
    gevent.sleep(max(0.0, until_s - time.time()))


@events.init_command_line_parser.add_listener
def _add_arguments(parser) -> None:
    add_arguments(parser)
    parser.add_argument("--record", type=Path, help="a directory to record every request in")


@events.test_stopping.add_listener
def _stop(environment, **_) -> None:
    environment.load.is_stopped = True


@events.test_stop.add_listener
def _finish(environment, **_) -> None:
    environment.load.end()
