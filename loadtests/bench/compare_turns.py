"""Turns: everybody in the comparison runs alone for some seconds, in one round after the other, and medians count."""

import contextlib
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.bench.compare_client import Load, closed_loop, run
from loadtests.bench.compare_peers import Peer, read_response
from loadtests.bench.compare_servers import DoesNotStart, Server, busy_cores
from loadtests.bench.http_connection import request_bytes

ENCODER = "TextEncoder"
MIN_COSINE = 0.999


@dataclass(frozen=True)
class Turn:
    """One turn, or the medians of several. `cpu_ms`: processor time of the whole server for each request;
    `encoder_cpu_ms`: of our text encoder's replicas; `busy_cores`: of the machine, the client's share included."""

    per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    cpu_ms: float = 0.0
    encoder_cpu_ms: float = 0.0
    busy_cores: float = 0.0
    client_cores: float = 0.0
    refused_per_s: float = 0.0
    failed_per_s: float = 0.0

    @classmethod
    def of(cls, load: Load, looks: list[tuple[float, ...]] | None = None) -> "Turn":
        """`looks`: processor seconds of server, encoder and machine, and the clock, before and after."""
        spent = [after - before for before, after in zip(*looks, strict=True)] if looks else [0.0, 0.0, 0.0, 1.0]
        for_each = 1000 / max(len(load.latencies_ms), 1)
        return cls(
            load.per_s, load.percentile_ms(50), load.percentile_ms(99), max(load.latencies_ms, default=0.0),
            for_each * spent[0], for_each * spent[1], spent[2] / spent[3], load.client_cores,
            load.num_refused / load.span_s, load.num_failed / load.span_s,
        )  # fmt: skip

    @classmethod
    def median(cls, turns: "list[Turn]") -> "Turn":
        rows = [asdict(turn) for turn in turns]
        return cls(**{field.name: statistics.median(row[field.name] for row in rows) for field in fields(cls)})


def closed_turn(server: Server, requests: Iterator[bytes], num_callers: int, span_s: float, warm_up_s: float) -> Turn:
    """`num_callers` who never leave the server idle."""
    looks: list[tuple[float, ...]] = []

    with server.turn():
        clock = server.clock(ENCODER)

        def look() -> None:
            looks.append((*clock(), *busy_cores()))

        load = run(closed_loop(server.port, requests, num_callers, span_s, warm_up_s, look))
    if load.problem:
        print(f"{server.name}: {load.num_failed} requests failed: {load.problem}", file=sys.stderr, flush=True)
    return Turn.of(load, looks)


def in_rounds(sides: dict[str, Callable[[], Any]], num_rounds: int) -> dict[str, list[Any]]:
    """Everybody's turns, the first one another in each round."""
    found: dict[str, list[Any]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(num_rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(sides[name]())
            print(f"  {name}: {_short(found[name][-1])}", file=sys.stderr, flush=True)
    return found


class Running:
    """The servers that run; at the end of a `with` statement none does.

    `missing`: of those that were to start last, name -> why it does not run.
    """

    def __init__(self, logs: Path):
        self._logs = logs
        self._running: list[Server] = []
        self.missing: dict[str, str] = {}

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.ExitStack() as all_of_them:  # the others, too, where a signal ends the stopping of one
            for server in self._running:
                all_of_them.callback(server.stop)

    def start(self, peers: list[Peer], session: str = "theirs") -> dict[str, tuple[Peer, Server]]:
        """Those that start, frozen. One starts after another: all at once, Ray would lose its patience."""
        self.missing, found = {}, {}
        for peer in peers:
            if server := self._started(peer, session):
                found[peer.name] = peer, server
        return found

    def stop(self, servers: Iterable[Server]) -> None:
        for server in list(servers):
            server.stop()
            self._running.remove(server)

    def _started(self, peer: Peer, session: str) -> Server | None:
        started_s = time.monotonic()
        try:
            server = peer.start(self._logs, session)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            self._miss(peer, f"cannot be installed here: {' '.join(reason.split())[-300:]}")
            return None
        self._running.append(server)  # at once: whatever ends this, it is ended too
        try:
            server.wait_until_ready()
        except DoesNotStart as error:
            self._miss(peer, f"does not start: {error}")
            self.stop([server])
            return None
        server.freeze()
        print(f"{peer.name} ({session} session): {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
        return server

    def _miss(self, peer: Peer, why: str) -> None:
        self.missing[peer.name] = why
        print(f"{peer.name} {why}", file=sys.stderr, flush=True)


def unable(sides: dict[str, tuple[Peer, Server]], kind: str, asked: Any) -> dict[str, str]:
    """Who does not answer, or returns another embedding than the first one does: name -> why."""
    wanted, found = None, {}
    for name, (peer, server) in sides.items():
        if kind not in peer.bodies:
            found[name] = peer.why_not.get(kind, "does nothing like it")
            continue
        try:
            with server.turn():
                answer = ask(peer, server, kind, asked)
            if isinstance(answer, str):
                continue
            wanted = answer if wanted is None else wanted
            if (cosine := _cosine(answer, wanted)) < MIN_COSINE:
                found[name] = f"other embeddings: cosine {cosine:.4f}"
        except Exception as error:  # whatever a stranger may answer
            found[name] = f"does not answer as it should: {type(error).__name__}: {error}"
    for name, why in found.items():
        print(f"  {name}, {kind}: {why}", file=sys.stderr, flush=True)
    return found


def ask(peer: Peer, server: Server, kind: str, asked: Any) -> Any:
    """One request in the server's turn: the first embedding, or the text of the answer. Raises ValueError, refused."""
    path, body = peer.bodies[kind]
    content = request_bytes(path, body(asked)).partition(b"\r\n\r\n")[2]
    url, headers = f"http://127.0.0.1:{server.port}{path}", {"content-type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=60) as response:
            return read_response(peer, response.read())
    except urllib.error.HTTPError as error:
        raise ValueError(f"{error.code}: {error.read()[:200].decode(errors='replace')}") from error


def _cosine(found: Any, wanted: Any) -> float:
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted))


def _short(turn: Any) -> str:
    if isinstance(turn, Turn):
        return f"{turn.per_s:.1f}/s, p50 {turn.p50_ms:.0f} ms"
    return ", ".join(f"{key} {value:.4g}" for key, value in turn.items() if isinstance(value, float))
