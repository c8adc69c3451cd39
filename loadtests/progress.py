"""One line that tells how the load goes, once a second."""

import sys
import time
from collections import Counter, deque

from loadtests.calls import Call

WINDOW_S = 5.0
LINE_EVERY_S = 5
WIDTH = 110
"""A line that is written over another covers all of it."""


class Progress:
    """Counts calls and prints; on a terminal the line is written over, elsewhere it comes every few seconds."""

    def __init__(self, duration_s: float, unit: str):
        self._duration_s = duration_s
        self._unit = unit
        self._recent: deque[tuple[float, Call]] = deque()
        self._totals: Counter[str] = Counter()
        self._num_lines = 0

    def add(self, call: Call) -> None:
        """A call that has ended."""
        self._recent.append((time.time(), call))
        self._totals[call.outcome] += 1

    def show(self, elapsed_s: float, load: float, num_in_flight: int) -> None:
        """Print the line; to be called once a second."""
        is_terminal = sys.stdout.isatty()
        self._num_lines += 1
        if is_terminal or self._num_lines % LINE_EVERY_S == 1:
            line = self.line(elapsed_s, load, num_in_flight)
            print(f"{line:<{WIDTH}}", end="\r" if is_terminal else "\n", flush=True)

    def line(self, elapsed_s: float, load: float, num_in_flight: int) -> str:
        """The line, over the last few seconds."""
        now_s = time.time()
        while self._recent and self._recent[0][0] < now_s - WINDOW_S:
            self._recent.popleft()
        latencies = sorted(call.latency_ms for _, call in self._recent if call.outcome == "answered")
        per_s = len(latencies) / max(min(WINDOW_S, elapsed_s), 0.1)
        parts = [f"{elapsed_s:4.0f} of {self._duration_s:.0f} s", f"{load:5.1f} {self._unit}"]
        if elapsed_s > self._duration_s:
            parts = [f"{elapsed_s:4.0f} s  waiting for the last answers"]
        parts.append(f"{per_s:6.1f} answers/s")
        if latencies:
            parts.append(f"p50 {latencies[len(latencies) // 2]:5.0f} ms")
            parts.append(f"p95 {latencies[int(0.95 * len(latencies))]:5.0f} ms")
        parts.append(f"{num_in_flight:3d} in flight")
        parts += [f"{self._totals[outcome]} {outcome}" for outcome in ("refused", "failed") if self._totals[outcome]]
        return "  ".join(parts)
