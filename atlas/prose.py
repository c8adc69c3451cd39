"""Turns facts into the text of a document: the same for real countries, emoji and invented things."""

import functools
import random
import re

from atlas.wording import fill, is_many, load_schema

JOINED_SHARE = 0.6  # of documents tell two facts in one sentence somewhere
PROPER_OPENING_SHARE = 0.5  # of documents begin with the continent, or with the name of the emoji
OPENINGS = {"country": "continent", "emoji": "name"}


def write_prose(rng: random.Random, kind: str, name: str, values: dict[str, str], key: str = "facts") -> str:
    """Sentences that state every value once, in random order and words; the first one names the thing.

    `values` is attribute -> surface; `key` is "unseen_facts" for wordings that no model was trained on.
    """
    wordings = _prose_wordings(kind, key)
    units = [attribute for attribute in values if attribute in wordings]
    rng.shuffle(units)
    if OPENINGS[kind] in units and rng.random() < PROPER_OPENING_SHARE:
        units.insert(0, units.pop(units.index(OPENINGS[kind])))
    sentences = [_sentence(rng.choice(wordings[unit]), name, values[unit]) for unit in units]
    if units:
        opening = rng.choice([wording for wording in wordings[units[0]] if "{name" in wording])
        sentences[0] = _sentence(opening, name, values[units[0]])
    if key == "facts" and rng.random() < JOINED_SHARE:
        _join_two(rng, kind, units, sentences, name, values)
    return " ".join(sentences)


def write_sheet(rng: random.Random, kind: str, name: str, values: dict[str, str]) -> str:
    """A fact sheet in random order: "Peru. Capital: Lima. Currency: Peruvian sol."."""
    wordings = _sheet_wordings(kind)
    units = [attribute for attribute in values if attribute in wordings]
    rng.shuffle(units)
    return " ".join([f"{name}."] + [_sentence(wordings[unit], name, values[unit]) for unit in units])


def _join_two(
    rng: random.Random, kind: str, units: list[str], sentences: list[str], name: str, values: dict[str, str]
) -> None:
    """Puts two facts into one sentence, in the place of the first of them."""
    wording = rng.choice(load_schema()["kinds"][kind].get("joined_facts") or [""])
    joined = _blanks(wording)
    places = sorted(units.index(attribute) for attribute in joined if attribute in units)
    if not places or len(places) < len(joined) or (places[0] == 0 and "{name" not in wording):
        return
    sentences[places[0]] = fill(wording, name, many=False, **values)
    for place in reversed(places[1:]):
        del sentences[place]


def _sentence(wording: str, name: str, value: str) -> str:
    return fill(wording, name, is_many(value), value=value)


@functools.cache
def _blanks(wording: str) -> frozenset[str]:
    return frozenset(re.findall(r"\{(\w+)\}", wording)) - {"name", "names"}


@functools.cache
def _prose_wordings(kind: str, key: str) -> dict[str, list[str]]:
    attributes = load_schema()["kinds"][kind]["attributes"]
    found = {attribute: entry.get(key, entry.get("facts", [])) for attribute, entry in attributes.items()}
    return {attribute: wordings for attribute, wordings in found.items() if wordings}


@functools.cache
def _sheet_wordings(kind: str) -> dict[str, str]:
    attributes = load_schema()["kinds"][kind]["attributes"]
    return {attribute: entry["sheet"] for attribute, entry in attributes.items() if "sheet" in entry}
