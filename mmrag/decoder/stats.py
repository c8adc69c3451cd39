"""What the engine counts and times."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from mmrag.decoder.scheduler import Scheduler

MAX_RECENT = 1_024


@dataclass
class Stats:
    """Counts since the start; how it is now; the times of the last requests, in seconds.

    Attributes:
        first_token_s: from asking to the first token, queueing and reading included.
        per_token_s: mean time between the tokens of one answer.
    """

    num_tokens: int = 0
    num_finished: int = 0
    num_cancelled: int = 0
    num_expired: int = 0
    num_steps: int = 0
    num_row_steps: int = 0
    num_waiting: int = 0
    num_reading: int = 0
    num_running: int = 0
    memory_bytes: float = 0
    first_token_s: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RECENT))
    per_token_s: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RECENT))
    _finished_s: deque[float] = field(default_factory=lambda: deque(maxlen=32))

    def as_dict(self) -> dict[str, float | list[float]]:
        """Everything, for whoever exports it."""
        return {
            name: list(value) if isinstance(value, deque) else value
            for name, value in vars(self).items()
            if not name.startswith("_")
        }

    def took_step(self, num_rows: int, scheduler: Scheduler) -> None:
        """Count a step in which so many rows wrote, and note how things stand after it."""
        self.num_steps += 1
        self.num_row_steps += num_rows
        self.num_waiting = len(scheduler.waiting)
        self.num_reading, self.num_running = len(scheduler.reading), len(scheduler.running)
        self.memory_bytes = scheduler.num_bytes

    def finished(self, job: Any) -> dict[str, float]:
        """Count an `engine.Job` that is done; its times in milliseconds."""
        now_s = time.perf_counter()
        self.num_finished += 1
        self._finished_s.append(now_s)
        first_s = job.first_token_s - job.submitted_s
        self.first_token_s.append(first_s)
        timings = {"queued": job.read_s - job.submitted_s, "first_token": first_s}
        if (num_more := len(job.output.tokens) - 1) > 0:
            timings["per_token"] = (now_s - job.first_token_s) / num_more
            self.per_token_s.append(timings["per_token"])
        return {name: round(1000 * seconds, 3) for name, seconds in timings.items()}

    def seconds_for(self, num_requests: int) -> float:
        """How long so many requests will take, judging by the last ones."""
        if len(self._finished_s) < 2:
            return 1.0
        per_request_s = (self._finished_s[-1] - self._finished_s[0]) / (len(self._finished_s) - 1)
        return min(max(0.1, num_requests * per_request_s), 60.0)
