"""Servers in turns: frozen while it is another's, ended with their children, compared only where they agree."""

import itertools
import sys
from pathlib import Path

import psutil
import pytest

from loadtests.bench.compare_peers import Peer
from loadtests.bench.compare_turns import Running, Turn, closed_turn, in_rounds, unable
from tests.waiting import until

TINY = Path(__file__).with_name("tiny_server.py")
BODIES = {"texts": ("/texts", lambda text: {"inputs": [text]})}


def peer(name: str, *arguments: str) -> Peer:
    return Peer(name, None, [sys.executable, str(TINY), "{port}", *arguments], BODIES)


@pytest.fixture
def running(tmp_path):
    with Running(tmp_path) as running:
        yield running


def test_a_server_sleeps_until_its_turn_and_ends_with_its_children(running):
    sides = running.start([peer("a"), peer("b")])
    (a, server), (_, other) = sides["a"], sides["b"]
    assert is_asleep(server) and is_asleep(other) and len(server.processes()) == 2
    requests = (a.request("texts", str(number)) for number in itertools.count())
    turn = closed_turn(server, requests, 4, span_s=0.5, warm_up_s=0.1)
    assert turn.per_s > 0 and turn.failed_per_s == 0 and turn.cpu_ms > 0
    assert turn.client_cores > 0
    assert is_asleep(server) and is_asleep(other)
    processes = server.processes()
    running.stop([server])
    assert not any(process.is_running() and process.status() != "zombie" for process in processes)
    assert len(other.processes()) == 2


def test_who_returns_other_embeddings_is_not_compared_and_it_is_said(running):
    sides = running.start([peer("a"), peer("b"), peer("c", "other"), peer("d", "empty")])
    missing = unable(sides, "texts", "seven letters")
    assert set(missing) == {"c", "d"}
    assert "other embeddings" in missing["c"] and "does not answer as it should: IndexError" in missing["d"]
    assert set(unable(sides, "images", "x")) == {"a", "b", "c", "d"}


def test_what_a_dead_server_leaves_behind_is_ended(running):
    [(_, server)] = running.start([peer("a")]).values()
    root, child = sorted(server.processes(), key=lambda process: process.pid)
    root.kill()
    server._process.wait()
    assert server.processes() == [child]
    running.stop([server])
    assert not child.is_running()


def test_who_does_not_start_is_named_with_the_reason(running):
    broken = Peer("broken", None, [sys.executable, "-c", "raise SystemExit('no such model')"], BODIES)
    assert set(running.start([broken, peer("a")])) == {"a"}
    assert running.missing["broken"] == "does not start: it ended: no such model"


def test_who_cannot_be_installed_is_named(running):
    assert running.start([Peer("gone", "no-such-requirements", ["x"], BODIES)]) == {}
    assert "cannot be installed here" in running.missing["gone"]


def test_each_round_begins_with_another():
    order = []
    sides = {name: lambda name=name: order.append(name) or Turn(per_s=1.0) for name in "abc"}
    assert {name: len(turns) for name, turns in in_rounds(sides, 3).items()} == {"a": 3, "b": 3, "c": 3}
    assert order == list("abcbcacab")


def test_medians_are_taken_of_each_figure():
    turns = [Turn(per_s=1.0, p50_ms=9.0), Turn(per_s=5.0, p50_ms=7.0), Turn(per_s=2.0, p50_ms=8.0)]
    assert Turn.median(turns) == Turn(per_s=2.0, p50_ms=8.0)


def is_asleep(server) -> bool:
    """Soon at least: the kernel stops a process only when it next runs."""
    return until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in server.processes()), timeout_s=10)
