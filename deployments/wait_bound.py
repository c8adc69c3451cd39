"""How many requests may be inside so that none waits long: Little's law, applied to what is measured."""

import math
import time
from collections.abc import Callable

from deployments.places import Places
from mmrag.errors import Overloaded

MIN_WINDOW_S = 0.5
MIN_ANSWERS = 8
"""A window of measurement lasts until it has seen so much."""

GROWTH = 1.25
"""Of the limit, at most, from one window to the next."""

FIRST_RATE_PER_S = 80
"""Of answers, until it is measured."""

MIN_LIMIT = 16
"""So many are always let in: batches stay full, and what little is measured about a quiet service is not trusted."""


class WaitBound:
    """Lets in as many requests at a time as are answered within the time one takes alone, and `max_wait_s`.

    By Little's law those inside are the rate of answers times the time each takes: where so many are inside that some
    will take too long, the limit becomes the measured rate times the time they may take. So it follows the hardware,
    the load beside it and the number of replicas; what is beyond it is refused before any work is done. That an answer
    takes long says nothing: it may be a long one.
    """

    def __init__(self, max_wait_s: float, max_requests: int, clock: Callable[[], float] = time.monotonic):
        self._max_wait_s, self._max_requests, self._clock = max_wait_s, max_requests, clock
        self._places = Places(int(min(max(MIN_LIMIT, FIRST_RATE_PER_S * max_wait_s), max_requests)), clock)
        self._alone_s = float("inf")
        self._rate_per_s = 0.0
        self._answered_s = clock()
        self._open_window()

    @property
    def limit(self) -> int:
        """How many are let in at a time."""
        return self._places.limit

    def check(self, caller: str) -> None:
        """Raise Overloaded where one more would wait too long, or would keep others waiting; see `Places`."""
        if not self._places.has_room_for(caller):
            self._was_full |= self._places.is_full
            wait_s = self._places.num_taken / self._rate_per_s if self._rate_per_s else 1.0
            raise Overloaded(f"too many requests: one more would wait {wait_s:.1f} s", retry_after_s=wait_s)

    def enter(self, caller: str) -> None:
        """Take a place."""
        if not self._places.num_taken:  # the rate is that of a service with work to do
            self._note_alone()
            self._open_window()
        self._places.take(caller)

    def leave(self, caller: str) -> None:
        """Give the place back."""
        self._places.give_back(caller)

    def answered(self, elapsed_s: float) -> None:
        """A request was answered, or began to be, `elapsed_s` after it entered."""
        self._num_answers += 1
        self._sum_s += elapsed_s
        self._answered_s = self._clock()
        window_s = self._answered_s - self._opened_s
        if self._num_answers >= MIN_ANSWERS and window_s >= MIN_WINDOW_S:
            self._note_alone()
            self._adjust(self._num_answers / window_s)
            self._open_window()

    def interrupted(self) -> None:
        """Something failed that is needed for answers. Where none came meanwhile, what was measured until now says
        nothing of when it is back."""
        if self._clock() - self._answered_s >= MIN_WINDOW_S:
            self._open_window()

    def _note_alone(self) -> None:
        if self._num_answers:
            self._alone_s = min(self._alone_s, self._sum_s / self._num_answers)

    def _adjust(self, rate_per_s: float) -> None:
        self._rate_per_s = rate_per_s
        num_bearable = rate_per_s * (self._alone_s + self._max_wait_s)
        if self._was_full or self._places.num_taken > max(MIN_LIMIT, num_bearable):
            limit = min(num_bearable, GROWTH * self.limit, self._max_requests)
            self._places.limit = max(MIN_LIMIT, math.ceil(limit))

    def _open_window(self) -> None:
        self._opened_s = self._clock()
        self._num_answers, self._sum_s, self._was_full = 0, 0.0, False
