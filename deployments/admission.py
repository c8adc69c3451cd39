"""How many requests, and how many bytes of them, one ingress holds at a time."""

from collections import Counter

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http_errors import error_response
from mmrag.errors import Overloaded

_ALWAYS_ADMITTED = ("/healthz", "/readyz")


class Admission:
    """ASGI middleware: beyond its bounds a request is refused at once, with 429, instead of waiting in memory.

    The bounds on work are the queues of the components; these here protect the process itself. A request takes one of
    the `max_requests` places when its body is there: bodies that drip in hold none, and of those one caller may have
    `max_arriving` on the way, so that nobody keeps the others out.
    """

    def __init__(self, app: ASGIApp, max_requests: int, max_bytes: int, max_arriving: int):
        self._app = app
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._max_arriving = max_arriving
        self.num_requests = 0
        self.num_bytes = 0
        self.arriving: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALWAYS_ADMITTED:
            await self._app(scope, receive, send)
            return
        held = _Held(self, _caller(scope))
        try:
            held.begin(has_body=_has_body(scope))
        except Overloaded as error:
            await error_response(error)(scope, receive, send)
            return
        try:
            await self._app(scope, held.counted(receive), send)
        finally:
            held.release()

    def check_requests(self) -> None:
        """Raise Overloaded where every place is taken."""
        if self.num_requests >= self._max_requests:
            raise Overloaded("too many requests at a time")

    def check_bytes(self) -> None:
        """Raise Overloaded where the bodies are too large together."""
        if self.num_bytes > self._max_bytes:
            raise Overloaded("too many large requests at a time")

    def check_arriving(self, caller: str) -> None:
        """Raise Overloaded where the caller has as many bodies on the way as one may have."""
        if self.arriving[caller] >= self._max_arriving:
            raise Overloaded("too many of your requests are still on the way; send their bodies faster, or fewer")


class _Held:
    """What one request takes up of the bounds."""

    def __init__(self, bounds: Admission, caller: str):
        self._bounds, self._caller = bounds, caller
        self._num_bytes = 0
        self._is_arriving = self._has_place = False

    def begin(self, has_body: bool) -> None:
        self._bounds.check_requests()
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
            if not message.get("more_body"):
                self._arrived()
            return message

        return counted_receive

    def release(self) -> None:
        self._stop_arriving()
        self._bounds.num_bytes -= self._num_bytes
        self._bounds.num_requests -= self._has_place

    def _arrived(self) -> None:
        self._stop_arriving()
        if not self._has_place:
            self._bounds.check_requests()
            self._take_place()

    def _take_place(self) -> None:
        self._bounds.num_requests += 1
        self._has_place = True

    def _stop_arriving(self) -> None:
        if self._is_arriving:
            self._is_arriving = False
            self._bounds.arriving[self._caller] -= 1
            if not self._bounds.arriving[self._caller]:
                del self._bounds.arriving[self._caller]


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _caller(scope: Scope) -> str:
    headers = Headers(scope=scope)
    key = headers.get("authorization") or headers.get("x-api-key")
    return f"key {key}" if key else f"address {(scope.get('client') or ('',))[0]}"
