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
    _finished_s: deque[float] = field(default_factory=lambda: deque(maxlen=32))

    def as_dict(self, scheduler: Scheduler) -> dict[str, float]:
        """The counts, and how things stand now: sequences of each kind, and the bytes spoken for. In any thread."""
        counts = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return counts | {
            "num_waiting": len(scheduler.waiting),
            "num_reading": len(scheduler.reading),
            "num_running": len(scheduler.running),
            "memory_bytes": scheduler.num_bytes,
        }

    def took_step(self, num_rows: int) -> None:
        """Count a step in which so many rows wrote."""
        self.num_steps += 1
        self.num_row_steps += num_rows

    def finished(self, job: Any) -> dict[str, float]:
        """Count an `engine.Job` that is done; its times in milliseconds."""
        now_s = time.perf_counter()
        self.num_finished += 1
        self._finished_s.append(now_s)
        first_s = job.first_token_s - job.submitted_s
        timings = {"queued": job.read_s - job.submitted_s, "first_token": first_s}
        if (num_more := len(job.output.tokens) - 1) > 0:
            timings["per_token"] = (now_s - job.first_token_s) / num_more
        return {name: round(1000 * seconds, 3) for name, seconds in timings.items()}

    def seconds_for(self, num_requests: int) -> float:
        """How long so many requests will take, judging by the last ones."""
        if len(self._finished_s) < 2:
            return 1.0
        per_request_s = (self._finished_s[-1] - self._finished_s[0]) / (len(self._finished_s) - 1)
        return min(max(0.1, num_requests * per_request_s), 60.0)
