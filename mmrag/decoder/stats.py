"""What the engine counts and times."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from mmrag.decoder.scheduler import Scheduler


@dataclass
class Stats:
    """Counts since the start.

    Attributes:
        num_tokens: written for those who still waited.
        num_row_steps: rows that wrote, over all steps.
    """

    num_tokens: int = 0
    num_finished: int = 0
    num_cancelled: int = 0
    num_expired: int = 0
    num_steps: int = 0
    num_row_steps: int = 0
    _between_s: deque[float] = field(default_factory=lambda: deque(maxlen=32))
    _last_finished_s: float | None = None

    def as_dict(self, scheduler: Scheduler) -> dict[str, float]:
        """The counts, and how things stand now: sequences of each kind, and the bytes spoken for. In any thread."""
        counts = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return counts | {
            "num_waiting": len(scheduler.waiting),
            "num_reading": len(scheduler.reading),
            "num_running": len(scheduler.running),
            "memory_bytes": scheduler.num_bytes,
        }

    def took_step(self, num_rows: int, scheduler: Scheduler) -> None:
        """Count a step in which so many rows wrote, and note whether it was the last for now."""
        self.num_steps += 1
        self.num_row_steps += num_rows
        if scheduler.is_idle:
            self._last_finished_s = None  # until the next one is finished, time passes in which nothing is done

    def finished(self, job: Any) -> dict[str, float]:
        """Count a `job.Job` that is done; its times in milliseconds."""
        now_s = time.perf_counter()
        self.num_finished += 1
        if self._last_finished_s is not None:
            self._between_s.append(now_s - self._last_finished_s)
        self._last_finished_s = now_s
        first_s = job.first_token_s - job.submitted_s
        timings = {"queued": job.read_s - job.submitted_s, "first_token": first_s}
        if job.num_written > 1:
            timings["per_token"] = (now_s - job.first_token_s) / (job.num_written - 1)
        return {name: round(1000 * seconds, 3) for name, seconds in timings.items()}

    def seconds_for(self, num_requests: int) -> float:
        """How long so many requests will take, judging by the last ones."""
        if not self._between_s:
            return 1.0
        return min(max(0.1, num_requests * sum(self._between_s) / len(self._between_s)), 60.0)
