"""Places for requests, and who has them."""

import time
from collections import Counter
from collections.abc import Callable

WANTED_S = 10.0
"""So long after somebody was refused places are kept for them: until some come free, and they come back."""


class Places:
    """At most `limit` places. One caller may have them all, but while others are refused gets no more than half."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic):
        self.limit = limit
        self.num_taken = 0
        self._clock = clock
        self._held: Counter[str] = Counter()
        self._wanted_until_s = float("-inf")

    @property
    def is_full(self) -> bool:
        """Whether all are taken."""
        return self.num_taken >= self.limit

    def has_room_for(self, caller: str) -> bool:
        """Whether `caller` may take one more; if not for having many, that is remembered against those who have."""
        now_s, has_many = self._clock(), self._held[caller] >= max(1, self.limit // 2)
        if has_many:
            return not self.is_full and now_s >= self._wanted_until_s
        if self.is_full:
            self._wanted_until_s = now_s + WANTED_S
        return not self.is_full

    def take(self, caller: str) -> None:
        """Take a place."""
        self.num_taken += 1
        self._held[caller] += 1

    def give_back(self, caller: str) -> None:
        """Give the place back."""
        self.num_taken -= 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
