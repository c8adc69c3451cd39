"""What an operator watches, on Ray's Prometheus port beside what Ray Serve itself exports.

Prometheus sees each of these names with the prefix `ray_`; cluster/grafana/mmrag.json draws them.
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI
from ray.serve import metrics as ray_metrics
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from mmrag.cache import EmbeddingCache
from mmrag.pipeline import Pipeline
from mmrag.types import Answer, Query

BOUNDS_S = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
"""From the time between two tokens of a small decoder to that of a request that waited for a large one."""

PUBLISH_PERIOD_S = 5.0
"""Ray forgets a gauge once it has exported it, every 10 s."""

CLIENT_LEFT = 499
"""The status of a request whose caller hung up before the answer began, as nginx has it."""


class Metrics:
    """Counts of this ingress.

    Args:
        meters: where Counter, Gauge and Histogram come from.
    """

    def __init__(self, cache: EmbeddingCache, parts: dict[str, Any], meters: Any = ray_metrics):
        self._cache, self._parts = cache, parts
        self._cache_counts: dict[str, int] = {}
        self._num_open = 0
        self._publisher: asyncio.Task | None = None
        self._requests = meters.Counter("mmrag_requests", "Requests by route and status", ("route", "status"))
        self._request_s = meters.Histogram("mmrag_request_seconds", "Until the last byte", BOUNDS_S, ("route",))
        self._stage_s = meters.Histogram("mmrag_stage_seconds", "Time in each stage of an answer", BOUNDS_S, ("stage",))
        self._degraded = meters.Counter("mmrag_degraded_answers", "Answers made without a part", ("part",))
        self._cache_events = meters.Counter("mmrag_cache", "Embeddings found, computed, written", ("event",))
        self._open = meters.Gauge("mmrag_open_requests", "Requests being answered")
        self._queue = meters.Gauge("mmrag_queue_length", "Calls waiting here for a component", ("component",))

    def request_began(self) -> None:
        self._num_open += 1
        if self._publisher is None:
            self._publisher = asyncio.create_task(self._publish_for_ever(), context=contextvars.Context())

    def request_ended(self, route: str, status: int, elapsed_s: float) -> None:
        """`route`: the template, never the path: that has no bound."""
        self._num_open -= 1
        self._requests.inc(tags={"route": route, "status": str(status)})
        self._request_s.observe(elapsed_s, tags={"route": route})

    def answered(self, answer: Answer) -> None:
        """Where the time of an answer went, and what it had to do without."""
        for stage, elapsed_ms in answer.timings_ms.items():
            self._stage_s.observe(elapsed_ms / 1000, tags={"stage": stage})
        for part in {note.partition(":")[0] for note in answer.degraded}:
            self._degraded.inc(tags={"part": part})

    def publish(self) -> None:
        """What is a state rather than an event: the queues, and what the cache has counted by now."""
        self._open.set(self._num_open)
        for name, part in self._parts.items():
            self._queue.set(part.num_waiting, tags={"component": name})
        counts = self._cache.counts()
        for event, number in counts.items():
            if new := number - self._cache_counts.get(event, 0):
                self._cache_events.inc(new, tags={"event": event})
        self._cache_counts = counts

    async def _publish_for_ever(self) -> None:
        while True:
            self.publish()
            await asyncio.sleep(PUBLISH_PERIOD_S)


class MeasuredPipeline(Pipeline):
    """A pipeline that tells `metrics` of its answers."""

    def __init__(self, metrics: Metrics, **parts: Any):
        super().__init__(**parts)
        self._metrics = metrics

    async def answer(self, query: Query) -> Answer:
        """As `Pipeline.answer`."""
        return self._noted(await super().answer(query))

    async def search(self, query: Query) -> Answer:
        """As `Pipeline.search`."""
        return self._noted(await super().search(query))

    async def stream(self, query: Query) -> AsyncGenerator[str | Answer, None]:
        """As `Pipeline.stream`."""
        async with aclosing(super().stream(query)) as pieces:
            async for piece in pieces:
                yield self._noted(piece) if isinstance(piece, Answer) else piece

    def _noted(self, answer: Answer) -> Answer:
        self._metrics.answered(answer)
        return answer


class Measured:
    """ASGI middleware, the outermost: every request is counted, whoever refuses it."""

    def __init__(self, app: FastAPI, metrics: Metrics):
        self._app = app
        self._metrics = metrics
        # Ray Serve looks here for the route that its log of requests and its own metrics name.
        self.routes, self.router = app.routes, app.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, started_s = CLIENT_LEFT, time.perf_counter()

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.request_began()
        try:
            await self._app(scope, receive, noting_send)
        finally:
            self._metrics.request_ended(self._route_of(scope), status, time.perf_counter() - started_s)

    def _route_of(self, scope: Scope) -> str:
        """The template of its path; also of what was refused before it came to a route."""
        if "route" in scope:
            return getattr(scope["route"], "path", "none")
        return next((route.path for route in self.routes if route.matches(scope)[0] is Match.FULL), "none")
