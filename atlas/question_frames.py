"""Wordings of training combined of parts: ways to name a thing, and sentences to ask for it in."""

import functools
import json
import random
import re
from pathlib import Path

from atlas.wording import load_schema

NUM_COMBINED = 400
TOO_NEAR = 0.6


@functools.cache
def combined(attribute: str, way: str) -> list[str]:
    """Ways to ask made of ways to name a thing and sentences to ask for it in, and whole ones, the same each time.

    Left out is what is written elsewhere, and what has most of its words in common with a wording of the test.
    """
    frames = json.loads((Path(__file__).parent / "question_frames.json").read_text(encoding="utf-8")).get(attribute)
    if frames is None:
        return []
    pairs = [(frame, thing) for frame in frames[way] for thing in frames["things"]]
    chosen = random.Random(f"{attribute} {way}").sample(pairs, NUM_COMBINED)
    made = [*frames[f"whole_{way}"], *(frame.replace("{thing}", thing) for frame, thing in chosen)]
    asked = load_schema()["kinds"]["country"]["attributes"][attribute]["questions"]
    known = set(asked["train"][way])
    tests = [template for templates in asked["test"].values() for template in templates]
    return [template for template in dict.fromkeys(made) if template not in known and not is_near(template, tests)]


def is_near(template: str, others: list[str]) -> bool:
    """Whether it has most of its words in common with one of the others."""
    return any(overlap(words_of(template), words_of(other)) >= TOO_NEAR for other in others)


def words_of(template: str) -> set[str]:
    return set(re.findall(r"[a-z']+", re.sub(r"\{names?\}", "", template.lower())))


def overlap(words: set[str], others: set[str]) -> float:
    return len(words & others) / max(1, len(words | others))
