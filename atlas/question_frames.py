"""More wordings of training: whole ones, and such as are combined of parts, ways to name a thing in sentences to ask
for it."""

import functools
import json
import random
import re
from pathlib import Path

NUM_COMBINED = 400
TOO_NEAR = 0.6


@functools.cache
def frames() -> dict[str, dict[str, list[str]]]:
    return json.loads((Path(__file__).parent / "question_frames.json").read_text(encoding="utf-8"))


def whole(attribute: str, way: str) -> list[str]:
    """Those written one by one."""
    return frames().get(attribute, {}).get(f"whole_{way}", [])


@functools.cache
def combined(attribute: str, way: str) -> list[str]:
    """Ways to ask made of ways to name a thing and sentences to ask for it in, the same each time."""
    of_attribute = frames().get(attribute)
    if of_attribute is None:
        return []
    pairs = [(frame, thing) for frame in of_attribute[way] for thing in of_attribute["things"]]
    chosen = random.Random(f"{attribute} {way}").sample(pairs, NUM_COMBINED)
    return list(dict.fromkeys(frame.replace("{thing}", thing) for frame, thing in chosen))


def is_near(template: str, others: list[str]) -> bool:
    """Whether it has most of its words in common with one of the others."""
    return any(overlap(words_of(template), words_of(other)) >= TOO_NEAR for other in others)


def words_of(template: str) -> set[str]:
    return set(re.findall(r"[a-z']+", re.sub(r"\{names?\}", "", template.lower())))


def overlap(words: set[str], others: set[str]) -> float:
    return len(words & others) / max(1, len(words | others))
