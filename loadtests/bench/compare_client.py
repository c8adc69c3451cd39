"""A client that takes next to nothing of the machine it shares with the server: closed and open loops of requests."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadtests.bench.http_connection import Caller

DRAIN_S = 15.0
"""How long the last answers are waited for, which no longer count."""

BACK_OFF_S = 0.1
"""How long a caller who was refused waits before asking again."""

Look = Callable[[], object]


@dataclass(slots=True)
class Load:
    """What became of one run of requests.

    Attributes:
        span_s: from the first to the last moment that counted.
        latencies_ms: of those answered with 200; in an open loop from when they were due.
        num_refused: answered with 429; `num_failed`: anything else but 200.
        client_cores: processor seconds a second that the client itself took.
    """

    span_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    num_refused: int = 0
    num_failed: int = 0
    client_cores: float = 0.0
    problem: str = ""

    @property
    def per_s(self) -> float:
        return len(self.latencies_ms) / self.span_s

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies_ms, percent)) if self.latencies_ms else float("inf")

    def add(self, status: int, body: bytes, latency_ms: float) -> None:
        if status == 200:
            self.latencies_ms.append(latency_ms)
        elif status == 429:
            self.num_refused += 1
        else:
            self.num_failed += 1
            self.problem = self.problem or f"{status}: {body[:200].decode(errors='replace')}"


def run(work: Coroutine[Any, Any, Load]) -> Load:
    """In an event loop of its own, uvloop's where there is one."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.run(work)
    return asyncio.run(work)


async def closed_loop(
    port: int, requests: Iterator[bytes], num_callers: int, span_s: float, warm_up_s: float, look: Look = bool
) -> Load:
    """Callers who each wait for their answer and ask again at once; what ends in the warm-up does not count.

    `look` is called when counting begins and when it ends.
    """
    load, used_s = Load(span_s=span_s), []
    begins_s = time.perf_counter() + warm_up_s
    ends_s = begins_s + span_s

    def note() -> None:
        used_s.append(time.process_time())
        look()

    for after_s in (warm_up_s, warm_up_s + span_s):
        asyncio.get_running_loop().call_later(after_s, note)

    async def caller() -> None:
        with contextlib.closing(Caller(port)) as connection:
            while (started_s := time.perf_counter()) < ends_s:
                status, body = await connection.exchange(next(requests))
                now_s = time.perf_counter()
                if begins_s <= now_s <= ends_s:
                    load.add(status, body, 1000 * (now_s - started_s))
                if status != 200:
                    await asyncio.sleep(BACK_OFF_S)

    callers = [asyncio.create_task(caller()) for _ in range(num_callers)]
    done, late = await asyncio.wait(callers, timeout=warm_up_s + span_s + DRAIN_S)
    for task in late:
        task.cancel()
    for task in done:
        task.result()
    await asyncio.sleep(max(0.0, ends_s + 0.05 - time.perf_counter()))
    load.client_cores = (used_s[1] - used_s[0]) / span_s
    return load


async def open_loop(port: int, requests: Iterator[bytes], per_s: float, span_s: float, warm_up_s: float) -> Load:
    """Requests come at their times, whether or not earlier ones were answered; those of the warm-up do not count."""
    load, idle, tasks = Load(), [], set()
    started_s, used_s = time.perf_counter(), time.process_time()

    async def send(due_s: float) -> None:
        caller = idle.pop() if idle else Caller(port)
        status, body = await caller.exchange(next(requests))
        idle.append(caller)
        if due_s >= started_s + warm_up_s:
            load.add(status, body, 1000 * (time.perf_counter() - due_s))

    for number in range(round(per_s * (warm_up_s + span_s))):
        due_s = started_s + number / per_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        tasks.add(asyncio.create_task(send(due_s)))
    await asyncio.gather(*tasks)
    for caller in idle:
        caller.close()
    load.span_s = span_s
    load.client_cores = (time.process_time() - used_s) / (time.perf_counter() - started_s)
    return load
