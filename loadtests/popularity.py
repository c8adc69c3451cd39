"""Which question is asked how often: a few all the time, most hardly ever."""

import random
from bisect import bisect
from itertools import accumulate


class Zipf:
    """Draws ranks 0 to `num`-1; rank r comes up in proportion to 1 / (r + 1) ** exponent."""

    def __init__(self, num: int, exponent: float):
        self._cumulative = list(accumulate((rank + 1) ** -exponent for rank in range(num)))

    def draw(self, rng: random.Random) -> int:
        """A rank."""
        return bisect(self._cumulative, rng.random() * self._cumulative[-1], hi=len(self._cumulative) - 1)
