"""How long those wait who are let in, when more come than can be served. The clock is simulated, the bound is real."""

import math
import random
from dataclasses import dataclass, field

import pytest

from deployments.wait_bound import FIRST_RATE_PER_S, GROWTH, MIN_LIMIT, MIN_WINDOW_S, WaitBound
from mmrag.errors import Overloaded

MAX_WAIT_S = 1.5
MAX_BATCH = 8


@dataclass
class Load:
    """What became of the requests of one stretch of time."""

    num_sent: int = 0
    num_refused: int = 0
    took_s: list[float] = field(default_factory=list)
    retry_after_s: list[float] = field(default_factory=list)


class Server:
    """Answers in batches, a fixed number of requests a second; requests come at random times."""

    def __init__(self, capacity_per_s: float):
        self.now_s = 0.0
        self.bound = WaitBound(MAX_WAIT_S, 512, clock=lambda: self.now_s)
        self.batch_s = MAX_BATCH / capacity_per_s
        self._random = random.Random(7)
        self._waiting: list[float] = []
        self._busy_until_s = 0.0
        self._batch: list[float] = []

    def take(self, per_s: float, duration_s: float = 30.0) -> Load:
        load, until_s = Load(), self.now_s + duration_s
        next_s = self.now_s
        while next_s < until_s:
            next_s += self._random.expovariate(per_s)
            self._serve_until(next_s, load)
            self._knock(load)
        return load

    def _knock(self, load: Load) -> None:
        load.num_sent += 1
        try:
            self.bound.check("anybody")
        except Overloaded as error:
            load.num_refused += 1
            load.retry_after_s.append(error.retry_after_s)
            return
        self.bound.enter("anybody")
        self._waiting.append(self.now_s)
        self._start_batch()

    def _serve_until(self, until_s: float, load: Load) -> None:
        while self._batch and self._busy_until_s <= until_s:
            self.now_s = self._busy_until_s
            for entered_s in self._batch:
                self.bound.leave("anybody")
                self.bound.answered(self.now_s - entered_s)
                load.took_s.append(self.now_s - entered_s)
            self._batch = []
            self._start_batch()
        self.now_s = until_s

    def _start_batch(self) -> None:
        if not self._batch and self._waiting:
            self._batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            self._busy_until_s = self.now_s + self.batch_s * len(self._batch) / MAX_BATCH


def p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


@pytest.mark.parametrize("capacity_per_s", [20, 60, 300])
def test_far_more_than_can_be_served_leaves_those_served_as_fast_and_as_many(capacity_per_s):
    server = Server(capacity_per_s)
    server.take(0.5 * capacity_per_s)
    saturated = server.take(1.05 * capacity_per_s)
    overloaded = server.take(2.4 * capacity_per_s)
    assert len(overloaded.took_s) >= 0.95 * len(saturated.took_s)
    assert p99(overloaded.took_s) < min(2 * p99(saturated.took_s), 2 * MAX_WAIT_S)
    assert max(overloaded.retry_after_s) < 3 * MAX_WAIT_S


def test_a_sudden_rush_is_bounded_within_seconds():
    server = Server(20)
    server.take(5)
    rush = server.take(50, duration_s=15)
    assert rush.num_refused > 0.4 * rush.num_sent
    assert p99(rush.took_s) < 1.5 * MAX_WAIT_S
    assert p99(server.take(50).took_s) < 2 * MAX_WAIT_S


def test_below_saturation_nobody_is_refused_whatever_came_before():
    server = Server(60)
    assert server.take(45).num_refused == 0
    server.take(200)
    server.take(30)
    assert server.take(45).num_refused == 0


def test_a_quiet_service_takes_a_burst():
    server = Server(60)
    server.take(1)
    assert server.take(400, duration_s=0.3).num_refused == 0


def test_what_failed_while_something_was_away_is_not_held_against_those_who_come_later():
    server = Server(60)
    server.take(30)
    server.bound.enter("waits all the while")
    server.now_s += 60
    server.bound.interrupted()
    assert server.take(45).num_refused == 0
    assert server.bound.limit > MIN_LIMIT


def test_failures_among_answers_do_not_hide_that_too_many_wait():
    server = Server(60)
    server.take(30)
    late = Load()
    for _ in range(100):
        some = server.take(150, duration_s=0.4)
        server.bound.interrupted()
        late.took_s += some.took_s
    assert p99(late.took_s) < 1.5 * MAX_WAIT_S


def test_long_answers_are_not_taken_for_a_queue():
    server = Server(60)
    server.take(10)
    limit = server.bound.limit
    for _ in range(4 * 8):  # four callers, whose answers take four seconds each
        for _ in range(4):
            server.bound.enter("patient")
        server.now_s += 4
        for _ in range(4):
            server.bound.answered(4.0)
            server.bound.leave("patient")
            server.bound.enter("next")
            server.bound.leave("next")
    assert server.bound.limit == limit


def test_before_anything_is_measured_no_more_are_let_in_than_a_slow_service_bears():
    server = Server(60)
    first = server.take(1_000, duration_s=1.0)
    assert len(server._waiting) + len(server._batch) + len(first.took_s) <= FIRST_RATE_PER_S * MAX_WAIT_S + 100
    assert first.num_refused > 500
    assert WaitBound(math.inf, 512).limit == 512


def test_one_window_of_quick_answers_lets_in_a_few_more_only():
    server = Server(20)
    server.take(100)
    limit = server.bound.limit
    for _ in range(200):  # from a cache, say
        server.bound.answered(0.001)
    server.bound._was_full = True
    server.now_s += MIN_WINDOW_S
    server.bound.answered(0.001)
    assert limit < server.bound.limit <= GROWTH * limit + 1


def test_more_are_let_in_when_the_service_grows():
    server = Server(20)
    server.take(100)
    assert server.take(100).num_refused > 0.7 * 100 * 30
    server.batch_s /= 10
    server.take(150)
    assert server.take(150).num_refused == 0
    assert server.bound.limit > MIN_LIMIT
