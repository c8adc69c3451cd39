"""One request at a time against a real service, and against services that misbehave."""

import time

import pytest

from loadtests import calls
from loadtests.calls import Caller
from loadtests.workload import KINDS, Request, Workload
from tests.conftest import serving

SEARCH = Request("search", "/v1/search", b"{}")
STREAM = Request("stream", "/v1/answer", b"{}", is_streamed=True)


def app(status: int, *chunks: bytes, headers: tuple = ()):
    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return answer


def send(url: str, request: Request) -> calls.Call:
    return Caller(url).send(request, time.time(), load=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_service_answers_every_kind_of_request(url, kind):
    call = send(url, Workload(seed=3).request(kind))
    assert (call.status, call.outcome, call.problem) == (200, "answered", "")
    assert (call.first_ms is not None) == (kind == "stream")
    assert ("total" in call.stages_ms) == (kind in ("text", "stream", "image", "both", "search"))


def test_latency_counts_from_when_the_request_was_due(url):
    call = Caller(url).send(Workload(1).request("search"), time.time() - 3, load=1)
    assert call.latency_ms > call.late_ms > 3_000


@pytest.mark.parametrize(
    ("status", "headers", "outcome", "retry_after_s"),
    [
        (429, ((b"retry-after", b"2"),), "refused", 2.0),
        (503, (), "refused", None),
        (500, (), "failed", None),
        (504, (), "failed", None),
    ],
)
def test_refusals_are_told_from_failures(status, headers, outcome, retry_after_s):
    with serving(app(status, b'{"error": 1}', headers=headers)) as url:
        call = send(url, SEARCH)
    assert (call.outcome, call.status, call.retry_after_s) == (outcome, status, retry_after_s)
    assert "error" in call.problem


TOKEN = b'event: token\ndata: {"text": "a"}\n\n'
WHOLE = b'event: answer\ndata: {"answer": "a", "degraded": ["x"], "timings_ms": {"decode": 3}}\n\n'
BROKEN = b'event: error\ndata: {"error": {"message": "no more"}}\n\n'


def test_a_stream_has_a_first_piece_and_an_answer():
    with serving(app(200, TOKEN, TOKEN, WHOLE)) as url:
        call = send(url, STREAM)
    assert call.outcome == "answered" and call.first_ms <= call.latency_ms
    assert call.stages_ms == {"decode": 3} and call.is_degraded


@pytest.mark.parametrize(("chunks", "message"), [((TOKEN, BROKEN), "no more"), ((TOKEN,), "token"), ((), "nothing")])
def test_a_stream_without_its_answer_has_failed(chunks, message):
    with serving(app(200, *chunks)) as url:
        call = send(url, STREAM)
    assert call.outcome == "failed" and message in call.problem


def test_nobody_there_is_a_failure_and_no_exception():
    with serving(app(200)) as url:
        pass
    assert send(url, SEARCH).outcome == "failed"


def test_an_answer_that_never_comes_is_a_failure(monkeypatch):
    import asyncio

    async def silent(scope, receive, send):
        await asyncio.sleep(1.0)

    monkeypatch.setattr(calls, "TIMEOUT_S", 0.2)
    with serving(silent) as url:
        call = send(url, SEARCH)
    assert call.outcome == "failed" and "no answer within" in call.problem
