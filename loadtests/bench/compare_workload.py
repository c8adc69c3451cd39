"""What everybody is asked in the comparison: short texts, pictures, questions, none of them twice in a turn."""

import base64
import itertools
import random
from collections.abc import Iterator

from loadtests.atlas_words import load_atlas
from loadtests.pictures import jittered


def questions(num: int, seed: int = 1) -> list[str]:
    """Different questions about the atlas, eight words in the mean."""
    atlas, rng = load_atlas(), random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < num:
        found[atlas.question(rng, "named")[0]] = None
    return list(found)


def pictures(num: int, seed: int = 1) -> list[str]:
    """Different JPEG files of the atlas's pictures, as base64."""
    atlas, rng = load_atlas(), random.Random(seed)
    chosen = (atlas.picture(rng.choice(atlas.things).id) for _ in range(num))
    return [base64.b64encode(jittered(picture, rng)).decode() for picture in chosen]


def grouped(texts: Iterator[str], num: int) -> Iterator[list[str]]:
    """`num` at a time, for ever."""
    while True:
        yield list(itertools.islice(texts, num))
