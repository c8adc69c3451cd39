"""The many ways in which a page may state the same facts: prose, fact sheets, lists, bare keys and values."""

import random

from atlas.invented_generic import write_generic
from atlas.prose import write_prose, write_sheet

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


def write_text(rng: random.Random, kind: str, name: str, values: dict[str, str]) -> str:
    """The facts `values` (attribute -> surface) of one entity in a layout chosen at random; mostly prose."""
    facts = {attribute: value for attribute, value in values.items() if attribute != "name"}
    chosen = rng.random()
    if kind == "generic" and chosen < 0.84:
        return write_generic(rng, name, facts)
    if chosen < 0.72:
        return write_prose(rng, kind, name, facts)
    if chosen < 0.84:
        return write_sheet(rng, kind, name, facts)
    return write_lines(rng, facts)


def write_lines(rng: random.Random, facts: dict[str, str]) -> str:
    attributes = rng.sample(list(facts), len(facts))
    line, joint = rng.choice(LINES), rng.choice(["\n", "\n", ". ", "; "])
    return joint.join(line.format(key=key_of(rng, attribute), value=facts[attribute]) for attribute in attributes)


def key_of(rng: random.Random, attribute: str) -> str:
    return rng.choice(KEYS.get(attribute, [attribute, attribute.capitalize()]))
