"""Fills the wordings of schema.json: {name}, {names} (possessive), {value}, and [one|many] by number."""

import functools
import json
import re
from pathlib import Path

SCHEMA_PATH = Path(__file__).parent / "schema.json"


@functools.cache
def load_schema() -> dict:
    """The wordings of facts and questions; treat as read-only."""
    return json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))


def fill(template: str, name: str, many: bool = False, **values: str) -> str:
    """`template` with its blanks filled; a sentence that starts with the name gets its capital letter."""
    if "[" in template:
        template = re.sub(r"\[([^|]*)\|([^]]*)\]", lambda match: match[2 if many else 1], template)
    starts_with_name = template.startswith(("{name}", "{names}")) and name.startswith("the ")
    text = template.format(name=name, names=possessive(name) if "{names}" in template else "", **values)
    return text[0].upper() + text[1:] if starts_with_name else text


def possessive(name: str) -> str:
    """"Peru's", "the Philippines'"."""
    return name + ("'" if name.endswith("s") else "'s")


def is_many(value: str) -> bool:
    """Whether a value lists several things: "Spanish, Quechua and Aymara"."""
    return " and " in value
