"""Where sentences end."""

import re
from bisect import bisect_left
from collections.abc import Iterator

# A full stop after a single letter ("J. Smith", "U.S. Army"), after "St" and the like or before a small letter ends no
# sentence. Possessive, and started at the first sign of a row only: linear on whatever text.
_SENTENCE_END = re.compile(
    r"""(?<![.!?…])(?!(?<=\b[^\W\d_])(?<!['’].)\.\s)(?!(?<=\b(?:St|Mt|Ft|Mr|Ms|Dr))\.\s)"""
    r"""[.!?…]++["'”’»)\]]*+\s++(?=[^\sa-zà-ÿ])|[。！？｡]++[」』”’）]*+|\n"""
)


def sentences(text: str, token_places: list[int]) -> Iterator[tuple[int, int]]:
    """First and last + 1 token of each sentence of a text; none is empty. `token_places`: a character of each token,
    its first or, where tokens begin with the space before a word, its last."""
    first = 0
    for match in _SENTENCE_END.finditer(text):
        last = bisect_left(token_places, match.end(), lo=first)
        if last > first:
            yield first, last
            first = last
        if first == len(token_places):
            return  # of a long text only the beginning may have been tokenized
    if first < len(token_places):
        yield first, len(token_places)
