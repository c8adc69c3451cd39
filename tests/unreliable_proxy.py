"""A real server between a client and Elasticsearch that can fail in every way a network and a cluster can."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

STATUS = {429: "Too Many Requests", 503: "Service Unavailable"}


class UnreliableProxy:
    """Passes requests on as long as `trouble` is None.

    Attributes:
        trouble: "silent" (takes the request, never answers), "half" (half of the response, then gone), a status such
            as 429, or a function that changes the parsed response; called for requests whose path contains `where`.
        num_troubled: so many requests have met it.
        num_left: so many more will, then it is over.
    """

    def __init__(self, target: str):
        self._target = urlsplit(target)
        self.trouble: str | int | Callable[[dict], dict] | None = None
        self.where = ""
        self.num_troubled = 0
        self.num_left = 10**9
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Connections are refused from now on."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(_content_length(head))
            has_trouble = self.trouble is not None and self.where.encode() in head.split(b"\r\n")[0]
            if has_trouble and self.num_left > 0:
                self.num_troubled, self.num_left = self.num_troubled + 1, self.num_left - 1
                await self._fail(writer, head, body)
            else:
                writer.write(await self._forward(head, body))
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()

    async def _fail(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
        if self.trouble == "silent":
            await asyncio.sleep(3600)
        if isinstance(self.trouble, int):
            writer.write(_response(self.trouble, {"error": {"type": "too_busy"}, "status": self.trouble}))
            return
        response = await self._forward(head, body)
        if self.trouble == "half":
            writer.write(response[: len(response) // 2])
        else:
            content = json.loads(_body(response))
            writer.write(_response(200, self.trouble(content)))

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        first, *headers = [line for line in head.split(b"\r\n") if line]
        kept = [line for line in headers if not line.lower().startswith((b"connection:", b"accept-encoding:"))]
        writer.write(b"\r\n".join([first, *kept, b"Connection: close"]) + b"\r\n\r\n" + body)
        response = await reader.read()
        writer.close()
        return response.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)


@contextlib.asynccontextmanager
async def unreliable_proxy(target: str) -> AsyncIterator[UnreliableProxy]:
    proxy = UnreliableProxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


def _body(response: bytes) -> bytes:
    head, _, rest = response.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    body = b""
    while (size := int(rest.partition(b"\r\n")[0], 16)) > 0:
        rest = rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return body


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _response(status: int, content: dict) -> bytes:
    body = json.dumps(content).encode()
    head = (
        f"HTTP/1.1 {status} {STATUS.get(status, 'OK')}\r\nX-elastic-product: Elasticsearch\r\n"
        "content-type: application/vnd.elasticsearch+json;compatible-with=8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
