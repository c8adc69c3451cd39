"""Which name was meant."""

import difflib
import heapq
from collections.abc import Iterable
from itertools import islice

MAX_CHARS = 64
"""Longer names are compared with none: that takes the cube of their length, and names come from strangers."""

MAX_KNOWN = 100
"""So many names are looked at."""

MAX_CLOSELY = 10
"""So many of them, those that have the most letters in common, are compared letter by letter."""


def near_miss(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'that'?)"`: the nearest of the first `MAX_KNOWN` names `known`; "" where none is near."""
    if len(name) > MAX_CHARS:
        return ""
    matcher = difflib.SequenceMatcher(b=name)

    def letters_in_common(one: str) -> float:
        matcher.set_seq1(one)
        return matcher.quick_ratio()

    short = islice((one for one in known if len(one) <= MAX_CHARS), MAX_KNOWN)
    close = difflib.get_close_matches(name, heapq.nlargest(MAX_CLOSELY, short, key=letters_in_common), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
