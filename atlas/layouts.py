"""The many ways in which a page may state the same facts: prose, fact sheets, lists, bare keys and values."""

import functools
import json
import random
from pathlib import Path

from atlas.invented_generic import write_generic
from atlas.prose import write_prose, write_sheet
from atlas.wording import fill, is_many, load_schema

KEYS = {
    "capital": [
        "Capital", "Capital city", "capital", "Seat of government", "Administrative centre", "Government seat",
        "Governed from", "Chief city", "Seat of power", "Metropolis and capital", "Federal capital", "Cap.",
        "National capital", "Main seat",
    ],
    "continent": [
        "Continent", "continent", "Part of the world", "Landmass", "On the continent of", "Continental location",
        "World part", "Cont.", "Continent (of seven)", "Large landmass", "Location (continent)",
    ],
    "region": [
        "Region", "region", "Subregion", "Geographical region", "UN region", "Part of the continent",
        "Subregion (UN)", "Area of the world", "World region", "Lies in", "Geoscheme", "Corner of the world",
        "Located in (region)", "Wider area",
    ],
    "currency": [
        "Currency", "currency", "Money", "Legal tender", "Currency unit", "Monetary unit", "Coin", "Tender",
        "Unit of account", "Cash", "National currency", "Coins and notes", "Paid in", "Local money",
    ],
    "languages": [
        "Languages", "Official languages", "Language", "languages", "Spoken", "Tongues", "Official language(s)",
        "Lang.", "Spoken here", "National tongues", "Working languages", "People speak", "Vernaculars", "Idioms",
    ],
    "population": [
        "Population", "population", "Inhabitants", "People", "Residents", "No. of inhabitants", "Pop.",
        "Number of people", "Head count", "Population (total)", "Souls", "Citizens and residents", "Census figure",
        "Populace",
    ],
    "area": [
        "Area", "Area (km²)", "Surface", "area", "Surface area (km²)", "Total area", "Extent", "Size (km²)",
        "Land and water", "Territory (km²)", "Square kilometres", "Sq km", "Covers (km²)", "Expanse",
    ],
    "neighbours": [
        "Neighbours", "Borders", "Neighbouring countries", "Bordering", "Borders with", "Land borders",
        "Adjacent countries", "Bordered by", "Next-door countries", "Frontiers", "Touches", "Adjoining states",
        "Shares a border with", "Countries around it",
    ],
    "domain": [
        "Internet domain", "Domain", "TLD", "Top-level domain", "ccTLD", "Web suffix", "Internet ending",
        "Internet TLD", "Web addresses end in", "Country code (web)", "Online suffix", "URL ending", "Websites under",
    ],
    "calling_code": [
        "Calling code", "Phone code", "Dialling code", "Telephone prefix", "Country calling code", "Dial-in code",
        "Phone prefix", "IDD", "International prefix", "Tel. code", "Dial", "Telephone country code",
        "Phone numbers start", "Call with",
    ],
    "meaning": [
        "Meaning", "Definition", "Gloss", "definition", "Explanation", "Means", "What it is", "Sense", "Dictionary",
        "In words", "In short",
    ],
    "keywords": [
        "Keywords", "Tags", "Associated words", "keywords", "Search terms", "Related words", "Found under",
        "See also", "Index terms", "Topics",
    ],
    "category": [
        "Category", "Group", "category", "Kind", "Class", "Section", "Filed under", "Type", "Heading", "Family",
    ],
}  # fmt: skip
LINES = [
    "{key}: {value}", "- {key}: {value}", "* {key} - {value}", "{key} = {value}", "{key}\t{value}", "• {key}: {value}",
    "{key} – {value}", "| {key} | {value} |", "{key} ... {value}", "{key} → {value}", "{value} ({key})",
]  # fmt: skip


HELD_BACK_SHARE = 0.04


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
    if chosen < 0.75:
        return write_freely(rng, kind, name, facts, held_back)
    if chosen < 0.83:
        return write_sheet(rng, kind, name, facts)
    return write_lines(rng, name, facts)


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


def write_lines(rng: random.Random, name: str, facts: dict[str, str]) -> str:
    attributes = rng.sample(list(facts), len(facts))
    line, joint = rng.choice(LINES), rng.choice(["\n", "\n", ". ", "; "])
    heading = [name] if rng.random() < 0.4 else []
    lines = [line.format(key=key_of(rng, attribute), value=facts[attribute]) for attribute in attributes]
    return joint.join(heading + lines)


def key_of(rng: random.Random, attribute: str) -> str:
    return rng.choice(KEYS.get(attribute, [attribute, attribute.capitalize()]))
