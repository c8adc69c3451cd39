"""One request and what became of it."""

import time
from dataclasses import dataclass, field
from typing import Literal

import gevent
import orjson
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPSocketPoolResponse

from loadtests.workload import Request

TIMEOUT_S = 60.0
MAX_CONNECTIONS = 4_000
REFUSALS = (429, 503)

Outcome = Literal["answered", "refused", "failed"]


@dataclass(slots=True)
class Call:
    """A request that was made.

    Attributes:
        due_s: `time.time()` when it was to be sent.
        load: the load at that time, in requests/s (open loop) or callers (closed loop).
        late_ms: how long after `due_s` it was sent, which is the load generator's own doing.
        latency_ms: from `due_s`, not from when it was sent, to the last byte.
        first_ms: from `due_s` to the first piece of a streamed answer.
        status: the HTTP status; 0 where there was none.
        problem: what went wrong, where something did.
        stages_ms: how long each stage took, as the service tells.
    """

    kind: str
    due_s: float
    load: float
    late_ms: float = 0.0
    latency_ms: float = 0.0
    first_ms: float | None = None
    status: int = 0
    problem: str = ""
    is_degraded: bool = False
    stages_ms: dict[str, float] = field(default_factory=dict)
    retry_after_s: float | None = None
    num_bytes: int = 0

    @property
    def outcome(self) -> Outcome:
        if self.status in REFUSALS:
            return "refused"
        return "failed" if self.problem else "answered"


class Caller:
    """Sends requests over kept connections. Works for any number of greenlets at a time."""

    def __init__(self, url: str, api_key: str | None = None):
        headers = {"content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        timeouts = {"connection_timeout": TIMEOUT_S, "network_timeout": TIMEOUT_S}
        self._http = HTTPClient.from_url(url, concurrency=MAX_CONNECTIONS, headers=headers, **timeouts)

    def send(self, request: Request, due_s: float, load: float) -> Call:
        """Send it now and wait for the whole answer; never raises."""
        call = Call(request.kind, due_s, load, late_ms=_since_ms(due_s))
        try:
            with gevent.Timeout(TIMEOUT_S, TimeoutError(f"no answer within {TIMEOUT_S:.0f} s")):
                self._exchange(request, call)
        except Exception as error:
            call.problem = f"{type(error).__name__}: {error}"
        call.latency_ms = _since_ms(due_s)
        return call

    def delete(self, path: str) -> None:
        """Delete what may be there."""
        self._http.delete(path).read()

    def _exchange(self, request: Request, call: Call) -> None:
        response = self._http.post(request.path, request.body)
        call.status = response.status_code
        body = _read_stream(response, call) if request.is_streamed and call.status == 200 else response.read()
        call.num_bytes += len(body)
        if call.status == 200:
            _note(orjson.loads(body), call)
        else:
            call.problem = f"status {call.status}: {bytes(body[:200]).decode(errors='replace')}"
            call.retry_after_s = float(response.get("retry-after") or 0) or None


def _read_stream(response: HTTPSocketPoolResponse, call: Call) -> bytes:
    """The last event's data, which is the whole answer."""
    event = data = b""
    while line := response.readline(b"\n"):
        call.num_bytes += len(line)
        name, _, value = line.strip().partition(b": ")
        if name == b"event":
            event = value
        elif name == b"data":
            data = value
            call.first_ms = call.first_ms or _since_ms(call.due_s)
    response.release()
    if event != b"answer":
        raise ConnectionError(f"the stream ended with {event.decode() or 'nothing'}: {data[:200].decode()}")
    return data


def _note(body: dict, call: Call) -> None:
    call.stages_ms = body.get("timings_ms", {})
    call.is_degraded = bool(body.get("degraded"))


def _since_ms(moment_s: float) -> float:
    return 1000 * (time.time() - moment_s)
