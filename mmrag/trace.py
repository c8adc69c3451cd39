"""What happened on the way of a query: how long each stage took, and what had to be left out."""

import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from mmrag.errors import Unavailable

T = TypeVar("T")


@dataclass(slots=True)
class Trace:
    """See `mmrag.types.Answer` for what `timings_ms` and `degraded` mean."""

    timings_ms: dict[str, float] = field(default_factory=dict)
    degraded: list[str] = field(default_factory=list)
    started_s: float = field(default_factory=time.perf_counter)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note how long what is done inside takes."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.timings_ms[name] = _milliseconds_since(started_s)

    async def or_degrade(self, part: str, work: Awaitable[T]) -> T | None:
        """The result of `work`; None, and a note, where `part` is down."""
        try:
            with self.stage(part):
                return await work
        except Unavailable as error:
            self.degraded.append(f"{part}: {error}")
            return None

    def end(self) -> None:
        """Note how long all of it took."""
        self.timings_ms["total"] = _milliseconds_since(self.started_s)


def _milliseconds_since(started_s: float) -> float:
    return round(1000 * (time.perf_counter() - started_s), 2)
