"""How much load, when: each shape tells the share of the peak at a share of the time, both between 0 and 1."""

import math
from collections.abc import Callable, Iterator

NUM_STEPS = 6
SPIKE_BASE = 0.2
SPIKE_FROM, SPIKE_TO = 0.4, 0.6
TICK_S = 0.01
ROUNDING = 1e-6
"""Sums of many small numbers fall a little short."""

Shape = Callable[[float], float]


def ramp(progress: float) -> float:
    """From nothing to the peak, evenly: where does it begin to hurt?"""
    return progress


def step(progress: float) -> float:
    """Up in equal steps, each long enough to settle: what does each load cost?"""
    return min(math.floor(progress * NUM_STEPS) + 1, NUM_STEPS) / NUM_STEPS


def spike(progress: float) -> float:
    """A fifth of the peak, suddenly all of it, then a fifth again: does it come back?"""
    return 1.0 if SPIKE_FROM <= progress < SPIKE_TO else SPIKE_BASE


def soak(progress: float) -> float:
    """The peak from the first second to the last: does it stay as it was?"""
    return 1.0


SHAPES: dict[str, Shape] = {shape.__name__: shape for shape in (ramp, step, spike, soak)}


def arrivals(shape: Shape, peak: float, duration_s: float) -> Iterator[float]:
    """When requests are due in an open loop, in seconds from the start: evenly spaced at `peak` x `shape` a second.

    The times are fixed beforehand and wait for no answer, as the people who ask do not wait for each other.
    """
    expected = 0.0
    for tick in range(math.ceil(duration_s / TICK_S)):
        start_s = tick * TICK_S
        width_s = min(TICK_S, duration_s - start_s)
        before, expected = expected, expected + peak * shape(start_s / duration_s) * width_s
        for number in range(math.floor(before + ROUNDING) + 1, math.floor(expected + ROUNDING) + 1):
            yield start_s + width_s * (number - before) / (expected - before)
