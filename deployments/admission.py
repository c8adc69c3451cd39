"""How many requests, and how many bytes of them, one ingress holds at a time."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http_errors import error_response
from mmrag.errors import Overloaded

_ALWAYS_ADMITTED = ("/healthz", "/readyz")


class Admission:
    """ASGI middleware: beyond its bounds a request is refused at once, with 429, instead of waiting in memory.

    The bounds on work are the queues of the components; these here protect the process itself.
    """

    def __init__(self, app: ASGIApp, max_requests: int, max_bytes: int):
        self._app = app
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._num_requests = 0
        self._num_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALWAYS_ADMITTED:
            await self._app(scope, receive, send)
        elif self._num_requests >= self._max_requests:
            await error_response(Overloaded("too many requests at a time"))(scope, receive, send)
        else:
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        held_bytes = 0

        async def counted_receive() -> Message:
            nonlocal held_bytes
            message = await receive()
            num_bytes = len(message.get("body", b""))
            held_bytes += num_bytes
            self._num_bytes += num_bytes
            if self._num_bytes > self._max_bytes:
                raise Overloaded("too many large requests at a time")
            return message

        self._num_requests += 1
        try:
            await self._app(scope, counted_receive, send)
        finally:
            self._num_requests -= 1
            self._num_bytes -= held_bytes
