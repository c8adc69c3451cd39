"""Waiting for what happens in another process."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 300.0) -> T:
    """What `condition` returns once that is true; the deadline is for a hopelessly busy machine."""
    until_s = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    return result
