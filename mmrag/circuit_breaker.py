"""A circuit breaker: what has failed several times in a row is left alone for a while (Nygard, Release It!)."""

import time
from collections.abc import Callable


class CircuitBreaker:
    """Says whether it is worth trying. For one thread or one event loop.

    After `max_failures` failures in a row nothing is tried for `pause_s` seconds; then one caller may, and its outcome
    decides for all. Whoever `allows` let through must report `succeeded` or `failed`; a trial that reports neither (its
    caller was cancelled) is followed by another after `pause_s`.

    Args:
        now_s: a monotonic clock, in seconds.
    """

    def __init__(self, max_failures: int = 5, pause_s: float = 1.0, now_s: Callable[[], float] = time.monotonic):
        self._max_failures = max_failures
        self._pause_s = pause_s
        self._now_s = now_s
        self._num_failures = 0
        self._shut_until_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the circuit is broken: calls are not even tried, but for a trial now and then."""
        return self._num_failures >= self._max_failures

    def allows(self) -> bool:
        """Whether to try now."""
        if not self.is_open:
            return True
        if self._now_s() < self._shut_until_s:
            return False
        self._shut_until_s = self._now_s() + self._pause_s  # this caller is the trial
        return True

    def succeeded(self) -> None:
        """What was tried worked."""
        self._num_failures = 0

    def failed(self) -> None:
        """What was tried did not work."""
        self._num_failures += 1
        self._shut_until_s = self._now_s() + self._pause_s
