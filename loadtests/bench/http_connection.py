"""A kept HTTP connection that costs its client next to nothing: bytes made beforehand, a bare socket."""

import asyncio
from typing import Any

import orjson

TIMEOUT_S = 60.0


def request_bytes(path: str, body: dict[str, Any]) -> bytes:
    """A whole HTTP/1.1 request."""
    content = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


class Connection(asyncio.Protocol):
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


class Caller:
    """A connection that is opened anew where the server has closed it."""

    def __init__(self, port: int):
        self._port = port
        self._connection: Connection | None = None

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


async def _connect(port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
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
