"""How many requests, and how many bytes of them, one ingress holds at a time."""

import math
import time
from collections import Counter
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http_errors import error_response
from deployments.places import Places
from deployments.wait_bound import WaitBound
from mmrag.errors import Overloaded

_ALWAYS_ADMITTED = ("/healthz", "/readyz")
_DEADLINE_EXCEEDED = 504


class Admission:
    """ASGI middleware: beyond its bounds a request is refused at once, with 429, instead of waiting in memory.

    A request takes one of the `max_requests` places when its body is there: bodies that drip in hold none, and of those
    one caller may have `max_arriving` on the way, and a quarter of `max_bytes`, so that nobody keeps the others out.
    On the paths of `max_wait_s` there are as many places as are answered before anybody waits that long: see
    `WaitBound`. `caller_of` tells who sent a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_requests: int,
        max_bytes: int,
        max_arriving: int,
        max_wait_s: dict[str, float],
        caller_of: Callable[[Scope], str],
    ):
        self._app = app
        self._wait_bounds = {path: WaitBound(wait_s, max_requests) for path, wait_s in max_wait_s.items()}
        self._no_wait_bound = WaitBound(math.inf, max_requests)
        self._caller_of = caller_of
        self._max_bytes = max_bytes
        self._max_arriving = max_arriving
        self.places = Places(max_requests)
        self.num_bytes = 0
        self.arriving: Counter[str] = Counter()
        self.arriving_bytes: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALWAYS_ADMITTED:
            await self._app(scope, receive, send)
            return
        held = _Held(self, self._caller_of(scope), self._wait_bounds.get(scope["path"], self._no_wait_bound))
        try:
            held.begin(has_body=_has_body(scope))
        except Overloaded as error:
            await error_response(error)(scope, receive, send)
            return
        try:
            await self._app(scope, held.counted(receive), held.timed(send))
        finally:
            held.release()

    def check_requests(self, caller: str) -> None:
        """Raise Overloaded where there is no place for the caller."""
        if not self.places.has_room_for(caller):
            raise Overloaded("too many requests at a time")

    def check_bytes(self) -> None:
        """Raise Overloaded where the bodies are too large together."""
        if self.num_bytes > self._max_bytes:
            raise Overloaded("too many large requests at a time")

    def check_arriving(self, caller: str) -> None:
        """Raise Overloaded where the caller has as many bodies on the way as one may have."""
        if self.arriving[caller] >= self._max_arriving:
            raise Overloaded("too many of your requests are still on the way; send their bodies faster, or fewer")

    def check_arriving_bytes(self, caller: str) -> None:
        """Raise Overloaded where the caller's bodies that are on the way are too large together."""
        if self.arriving_bytes[caller] > self._max_bytes // 4:
            raise Overloaded("too many of your large requests are still on the way; send them faster, or fewer")


class _Held:
    """What one request takes up of the bounds."""

    def __init__(self, bounds: Admission, caller: str, wait_bound: WaitBound):
        self._bounds, self._caller, self._wait_bound = bounds, caller, wait_bound
        self._num_bytes = self._num_arriving_bytes = 0
        self._entered_s = 0.0
        self._is_arriving = self._has_place = self._is_waiting = False

    def begin(self, has_body: bool) -> None:
        self._check()
        if not has_body:
            self._take_place()
            return
        self._bounds.check_arriving(self._caller)
        self._bounds.arriving[self._caller] += 1
        self._is_arriving = True

    def counted(self, receive: Receive) -> Receive:
        async def counted_receive() -> Message:
            message = await receive()
            num_bytes = len(message.get("body", b""))
            self._num_bytes += num_bytes
            self._bounds.num_bytes += num_bytes
            self._bounds.check_bytes()
            if message.get("more_body"):
                self._arriving(num_bytes)
            else:
                self._arrived()
            return message

        return counted_receive

    def timed(self, send: Send) -> Send:
        async def timed_send(message: Message) -> None:
            if message["type"] == "http.response.start" and self._is_waiting:
                self._begin(message["status"])
            await send(message)

        return timed_send

    def release(self) -> None:
        self._stop_arriving()
        self._bounds.num_bytes -= self._num_bytes
        if self._has_place:
            self._bounds.places.give_back(self._caller)
            self._stop_waiting()

    def _begin(self, status: int) -> None:
        # An answer begins: how long a stream is, and how fast it is read, says nothing about who waits.
        if status < 400 or status == _DEADLINE_EXCEEDED:
            self._wait_bound.answered(time.monotonic() - self._entered_s)
        elif status >= 500:
            self._wait_bound.interrupted()
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._wait_bound.leave(self._caller)

    def _arriving(self, num_bytes: int) -> None:
        if self._is_arriving:
            self._num_arriving_bytes += num_bytes
            self._bounds.arriving_bytes[self._caller] += num_bytes
            self._bounds.check_arriving_bytes(self._caller)

    def _arrived(self) -> None:
        self._stop_arriving()
        if not self._has_place:
            self._check()
            self._take_place()

    def _check(self) -> None:
        self._bounds.check_requests(self._caller)
        self._wait_bound.check(self._caller)

    def _take_place(self) -> None:
        self._bounds.places.take(self._caller)
        self._has_place, self._is_waiting, self._entered_s = True, True, time.monotonic()
        self._wait_bound.enter(self._caller)

    def _stop_arriving(self) -> None:
        if self._is_arriving:
            self._is_arriving = False
            self._bounds.arriving[self._caller] -= 1
            self._bounds.arriving_bytes[self._caller] -= self._num_arriving_bytes
            if not self._bounds.arriving[self._caller]:
                del self._bounds.arriving[self._caller], self._bounds.arriving_bytes[self._caller]


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
