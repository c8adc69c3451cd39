"""The client of the comparison, on small servers of this process."""

import asyncio
import itertools

import pytest

from deployments.ports import free_port
from loadtests.bench.compare_client import Load, closed_loop, open_loop
from loadtests.bench.http_connection import parse, request_bytes

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"


@pytest.mark.parametrize(("whole", "body"), [(PLAIN, b"hello"), (CHUNKED, b"hello world")])
def test_a_response_is_read_when_it_is_whole_and_not_before(whole, body):
    assert parse(whole) == (200, body)
    assert all(parse(whole[:length]) is None for length in range(len(whole)))


def test_the_status_is_told_and_a_response_may_be_empty():
    assert parse(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n") == (429, b"")


async def test_callers_get_answers_until_the_time_is_over_and_the_server_is_looked_at_twice():
    looks = []
    async with serving([PLAIN]) as (port, received):
        look = lambda: looks.append(len(received))  # noqa: E731
        load = await closed_loop(port, requests(), 3, span_s=0.3, warm_up_s=0.1, look=look)
    assert load.per_s == len(load.latencies_ms) / 0.3 > 0 and not load.num_failed
    assert len(looks) == 2 and 0 < looks[0] < looks[1] <= len(received)
    assert 0 < len(load.latencies_ms) <= looks[1]
    assert received[0].startswith(b"POST /texts HTTP/1.1\r\n") and received[0].endswith(b'\r\n\r\n{"text":"0"}')


async def test_an_open_loop_sends_on_time_whether_or_not_answers_come():
    async with serving([PLAIN], after_s=0.4) as (port, received):
        load = await open_loop(port, requests(), per_s=50, span_s=0.4, warm_up_s=0.2)
    assert len(received) == 30 and len(set(received)) == 30
    assert 19 <= len(load.latencies_ms) <= 21, "those of the warm-up are not counted"
    assert min(load.latencies_ms) >= 390


async def test_refusals_and_failures_are_told_apart():
    busy = b"HTTP/1.1 429 X\r\nContent-Length: 0\r\n\r\n"
    broken = b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\noops"
    async with serving([PLAIN, busy, broken]) as (port, _):
        load = await open_loop(port, requests(), per_s=60, span_s=0.5, warm_up_s=0.0)
    assert (len(load.latencies_ms), load.num_refused, load.num_failed) == (10, 10, 10)
    assert load.problem == "500: oops"


async def test_a_server_that_hangs_up_fails_the_request_and_the_next_is_sent_anew():
    async with serving([b"", PLAIN]) as (port, _):
        load = await closed_loop(port, requests(), 1, span_s=1.0, warm_up_s=0.0)
    assert load.num_failed >= 1 and load.latencies_ms and "hung up" in load.problem


async def test_where_nobody_listens_every_request_fails_and_the_run_goes_on():
    load = await open_loop(free_port(), requests(), per_s=50, span_s=0.2, warm_up_s=0.0)
    assert (load.num_failed, load.latencies_ms) == (10, []) and "Connect" in load.problem


def test_a_run_without_answers_has_no_percentile():
    assert Load(span_s=1.0).percentile_ms(99) == float("inf")


def requests():
    return (request_bytes("/texts", {"text": str(number)}) for number in itertools.count())


class serving:
    """A server that gives these responses in turn, b"" hangs up; the port, and what it received."""

    def __init__(self, responses, after_s=0.0):
        self._responses, self._after_s, self.received = itertools.cycle(responses), after_s, []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1], self.received

    async def __aexit__(self, *exception):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.received.append(head + await reader.readexactly(length))
                await asyncio.sleep(self._after_s)
                if not (response := next(self._responses)):
                    break
                writer.write(response)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()
