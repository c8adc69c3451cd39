"""The many ways in which a page may state the same facts: prose, fact sheets, lists, bare keys and values."""

import functools
import json
import random
from pathlib import Path

from atlas.invented_generic import write_generic
from atlas.prose import write_prose, write_sheet
from atlas.wording import fill, is_many, load_schema

KEYS = {
    "capital": ["Capital", "Capital city", "capital", "Seat of government"],
    "continent": ["Continent", "continent", "Part of the world"],
    "region": ["Region", "region", "Subregion"],
    "currency": ["Currency", "currency", "Money"],
    "languages": ["Languages", "Official languages", "Language", "languages", "Spoken"],
    "population": ["Population", "population", "Inhabitants", "People"],
    "area": ["Area", "Area (km²)", "Surface", "area"],
    "neighbours": ["Neighbours", "Borders", "Neighbouring countries", "Bordering"],
    "domain": ["Internet domain", "Domain", "TLD", "Top-level domain"],
    "calling_code": ["Calling code", "Phone code", "Dialling code", "Telephone prefix"],
    "meaning": ["Meaning", "Definition", "Gloss", "definition"],
    "keywords": ["Keywords", "Tags", "Associated words", "keywords"],
    "category": ["Category", "Group", "category", "Kind"],
}
LINES = [
    "{key}: {value}", "- {key}: {value}", "* {key} - {value}", "{key} = {value}", "{key}\t{value}", "• {key}: {value}",
]  # fmt: skip


HELD_BACK_SHARE = 0.08


def write_text(rng: random.Random, kind: str, name: str, values: dict[str, str], held_back: bool = False) -> str:
    """The facts `values` (attribute -> surface) of one entity in a layout chosen at random; mostly prose.

    `held_back`: in the phrasings that training does not see, to validate on.
    """
    facts = {attribute: value for attribute, value in values.items() if attribute != "name"}
    chosen = rng.random()
    if kind == "generic" and chosen < 0.88:
        return write_generic(rng, name, facts)
    if chosen < 0.22:
        return write_prose(rng, kind, name, facts)
    if chosen < 0.78:
        return write_freely(rng, kind, name, facts, held_back)
    if chosen < 0.88:
        return write_sheet(rng, kind, name, facts)
    return write_lines(rng, facts)


def write_freely(rng: random.Random, kind: str, name: str, facts: dict[str, str], held_back: bool = False) -> str:
    """Sentences in more wordings than the atlas's own documents have: what is learned from few is learned by heart."""
    schema, sentences = load_schema()["kinds"][kind]["attributes"], []
    for attribute in rng.sample(list(facts), len(facts)):
        known = schema.get(attribute, {}).get("facts", ["{value}."])
        template = rng.choice(more_phrasings(held_back)[attribute] if held_back or rng.random() < 0.8 else known)
        sentences.append(fill(template, name, is_many(facts[attribute]), value=facts[attribute]))
    return rng.choice([" ", " ", " ", "\n"]).join(sentences)


@functools.cache
def more_phrasings(held_back: bool) -> dict[str, list[str]]:
    known = json.loads((Path(__file__).parent / "phrasings.json").read_text(encoding="utf-8"))
    for templates in known.values():
        random.Random(0).shuffle(templates)
        num_held = round(HELD_BACK_SHARE * len(templates))
        templates[:] = templates[:num_held] if held_back else templates[num_held:]
    return known


def write_lines(rng: random.Random, facts: dict[str, str]) -> str:
    attributes = rng.sample(list(facts), len(facts))
    line, joint = rng.choice(LINES), rng.choice(["\n", "\n", ". ", "; "])
    return joint.join(line.format(key=key_of(rng, attribute), value=facts[attribute]) for attribute in attributes)


def key_of(rng: random.Random, attribute: str) -> str:
    return rng.choice(KEYS.get(attribute, [attribute, attribute.capitalize()]))
