"""A client that takes next to nothing of the machine it shares with the server: bytes made beforehand, bare sockets."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

TIMEOUT_S = 60.0
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


def request_bytes(path: str, body: dict[str, Any]) -> bytes:
    """A whole HTTP/1.1 request."""
    content = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


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
        with contextlib.closing(_Caller(port)) as connection:
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
        caller = idle.pop() if idle else _Caller(port)
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


class _Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.is_open = True

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send and wait for status and body. Raises OSError where the server hangs up or takes too long."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(TIMEOUT_S):
            return await self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._answer and not self._answer.done() and (answer := parse(self._received)):
            self._received.clear()
            self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the server hung up"))

    def close(self) -> None:
        self._transport.close()


class _Caller:
    """A connection that is opened anew where the server has closed it."""

    def __init__(self, port: int):
        self._port = port
        self._connection: _Connection | None = None

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Status and body; status 0 and what went wrong where there was no answer."""
        try:
            if self._connection is None or not self._connection.is_open:
                self._connection = await _connect(self._port)
            return await self._connection.exchange(request)
        except OSError as error:  # TimeoutError is one
            self.close()
            return 0, f"{type(error).__name__}: {error}".encode()

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


async def _connect(port: int) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return connection


def parse(received: bytes | bytearray) -> tuple[int, bytes] | None:
    """Status and body of the response in `received`; None while it is not whole."""
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head, start = bytes(received[:head_end]).lower(), head_end + 4
    status = int(head[9:12])
    if b"transfer-encoding: chunked" in head:
        return (status, _joined(bytes(received[start:]))) if received.endswith(b"0\r\n\r\n") else None
    at = head.find(b"content-length:")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return (status, bytes(received[start : start + length])) if len(received) >= start + length else None


def _joined(chunks: bytes) -> bytes:
    body, at = b"", 0
    while (size := int(chunks[at : (line_end := chunks.index(b"\r\n", at))].split(b";")[0], 16)) > 0:
        body += chunks[line_end + 2 : line_end + 2 + size]
        at = line_end + 4 + size
    return body
