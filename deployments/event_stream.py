"""Answers as server-sent events: `token` for each piece, then `answer`; `error` when it breaks in between."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from deployments.http_errors import error_body
from deployments.rendering import server_sent_event
from mmrag.errors import MmragError
from mmrag.types import Answer
from mmrag.views import answer_view

log = logging.getLogger(__name__)

MAX_SEND_S = 10.0
"""Whoever does not read for so long is left: the stream holds a place among the requests."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class NotRead(Exception):
    """The caller does not take what is sent."""


class EventStream(Response):
    """Sends what `pieces` yields. Everything happens in the task of the request, so that its end ends the work."""

    def __init__(self, first: str | Answer, pieces: AsyncGenerator[str | Answer, None]):
        self.status_code = 200
        self.background = None
        self._first = first
        self._pieces = pieces

    @classmethod
    async def start(cls, pieces: AsyncGenerator[str | Answer, None]) -> "EventStream":
        """Wait for the first piece, so that what fails before it is an ordinary error with its own status."""
        return cls(await anext(pieces), pieces)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._pieces):
            try:
                await _sent(send, {"type": "http.response.start", "status": 200, "headers": _HEADERS})
                async for event in self._events():
                    await _sent(send, {"type": "http.response.body", "body": event, "more_body": True})
                await _sent(send, {"type": "http.response.body", "body": b""})
            except NotRead:
                log.info("a streamed answer was not read for %g s: it ends without its end", MAX_SEND_S)

    async def _events(self) -> AsyncIterator[bytes]:
        yield _event(self._first)
        try:
            async for piece in self._pieces:
                yield _event(piece)
        except Exception as error:
            if not isinstance(error, MmragError):
                log.exception("a streamed answer broke")
            yield server_sent_event("error", error_body(error))


async def _sent(send: Send, message: Message) -> None:
    try:
        async with asyncio.timeout(MAX_SEND_S):
            await send(message)
    except TimeoutError as error:
        raise NotRead from error


def _event(piece: str | Answer) -> bytes:
    if isinstance(piece, Answer):
        return server_sent_event("answer", answer_view(piece))
    return server_sent_event("token", {"text": piece})
