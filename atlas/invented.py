"""Invented countries and things: names, flags and facts that nobody can know, for training and for evaluation."""

import random

from atlas.entity import Entity, listed
from atlas.invented_flags import invent_flag
from atlas.invented_generic import GenericQuestion, invent_generic
from atlas.invented_names import invent_country_name, invent_name, invent_person, invent_word, words
from atlas.prose import write_prose, write_sheet
from atlas.wording import load_schema

__all__ = [
    "GenericQuestion", "distractions", "document_of", "invent_country", "invent_flag", "invent_generic",
    "invent_name", "invent_person", "invent_thing",
]  # fmt: skip
UNITS = (
    "dollar franc krone pound peso dinar rupee lira mark shilling crown real euro florin guilder rial yen som ruble"
    " taler ducat obol groat thaler sol cent"
)
LANGUAGE_ENDINGS = ["ish", "ese", "an", "i", "ic", "o", ""]
REAL_LANGUAGES = (
    "English French Spanish Arabic Portuguese Russian German Italian Dutch Swahili Hindi Malay Chinese Turkish Greek"
    " Korean Thai Tamil Persian Swedish"
)
COMPASS = ["Northern", "Southern", "Western", "Eastern", "Central", "Upper", "Lower", "Outer", "Inner"]
KEEPING_ALL_SHARE, KEEPING_CHANCE = 0.5, 0.75
SHEET_SHARE, DISTRACTED_SHARE = 0.1, 0.35


def invent_country(rng: random.Random) -> Entity:
    """A country with a fresh name and fresh facts; half of them lack some. Continents are real ones."""
    title, name = invent_country_name(rng)
    values = {"name": title}
    for attribute, invent in VALUES.items():
        values[attribute] = invent(rng)
    values["continent"] = rng.choice(load_schema()["classify"]["continent"])
    values["currency"] = _currency(rng, title)
    labels = [values["continent"], values["region"], "country"]
    metadata = {"kind": "country", "continent": values["continent"]}
    return Entity(_id(rng, "country"), "country", title, name, _some(rng, values), {}, labels, metadata)


def invent_thing(rng: random.Random) -> Entity:
    """Something with a name, a meaning, keywords and a category, like an emoji."""
    name = _thing_name(rng)
    category = rng.choice(load_schema()["classify"]["category"])
    values = {"name": name, "meaning": _meaning(rng), "keywords": _keywords(rng), "category": category}
    labels = [category, rng.choice(words("nouns")), "emoji"]
    metadata = {"kind": "emoji", "category": category}
    return Entity(_id(rng, "emoji"), "emoji", name, name, _some(rng, values), {}, labels, metadata)


def document_of(rng: random.Random, entity: Entity, key: str = "facts") -> dict:
    """The entity as a document: prose or a fact sheet, at times with sentences that are beside the point.

    `key` is "unseen_facts" for wordings of facts that are kept from training.
    """
    facts = {name: value for name, value in entity.values.items() if entity.kind == "emoji" or name != "name"}
    if key == "facts" and rng.random() < SHEET_SHARE:
        text = write_sheet(rng, entity.kind, entity.name, facts)
    else:
        text = write_prose(rng, entity.kind, entity.name, facts, key)
    if rng.random() < DISTRACTED_SHARE:
        text = " ".join([text, *distractions(rng, entity.name)])
    return {
        "id": entity.id,
        "title": entity.title,
        "text": text,
        "images": [],
        "labels": entity.labels,
        "metadata": entity.metadata,
    }


def distractions(rng: random.Random, name: str) -> list[str]:
    """One to three sentences with names and numbers that answer no question of the schema."""
    fillers = {
        "name": name,
        "place": invent_name(rng),
        "person": invent_person(rng),
        "noun": rng.choice(words("nouns")),
        "other": rng.choice(words("nouns")),
        "adjective": rng.choice(words("adjectives")),
        "year": rng.randint(1200, 2030),
        "number": f"{rng.randint(2, 9999):,}",
    }
    return [template.format(**fillers) for template in rng.sample(DISTRACTIONS, rng.randint(1, 3))]


DISTRACTIONS = [
    "In {year} {person} visited {place}.",
    "The poet {person} was born in {place} in {year}.",
    "A museum of {noun} opened in {year}.",
    "The {adjective} {noun} festival draws {number} visitors every year.",
    "Its highest mountain rises to {number} metres.",
    "The river {place} is {number} kilometres long.",
    "People are proud of their {adjective} {noun}.",
    "Many stories are told about {person} and the {noun}.",
    "The largest harbour is at {place}.",
    "The old town of {place} burned down in {year}.",
    "A treaty was signed at {place} on the {noun} trade.",
    "{person} wrote a book about the {adjective} {noun} of {name}.",
    "Exports include {noun} and {other}.",
    "There are {number} schools and {number} libraries.",
    "The team won {number} matches under {person}.",
    "Since {year} the {noun} has been a symbol of {name}.",
]


def _id(rng: random.Random, kind: str) -> str:
    return f"invented-{kind}-{rng.getrandbits(48):012x}"


def _some(rng: random.Random, values: dict[str, str]) -> dict[str, str]:
    """All facts, or the name and some of the others, at least one."""
    if rng.random() < KEEPING_ALL_SHARE:
        return values
    kept = {rng.choice([attribute for attribute in values if attribute != "name"]), "name"}
    return {name: value for name, value in values.items() if name in kept or rng.random() < KEEPING_CHANCE}


def _region(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(load_schema()["classify"]["region"])
    return f"{rng.choice(COMPASS)} {invent_word(rng)}" if rng.random() < 0.6 else invent_name(rng)


def _currency(rng: random.Random, country: str) -> str:
    unit = rng.choice(UNITS.split()) if rng.random() < 0.55 else invent_word(rng).lower()
    form = rng.random()
    if form < 0.2:
        return unit
    people = country.split()[-1] + rng.choice(["an", "ian", "ese", "i", "ish", ""])
    adjective = people if form < 0.7 else invent_word(rng)
    name = f"{adjective} {unit}"
    return f"{rng.choice(('new', 'West', 'East', 'convertible'))} {name}" if form > 0.93 else name


def _languages(rng: random.Random) -> str:
    found = []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        invented = invent_word(rng).rstrip("aeiou") + rng.choice(LANGUAGE_ENDINGS)
        found.append(invented if rng.random() < 0.8 else rng.choice(REAL_LANGUAGES.split()))
    return listed(list(dict.fromkeys(found)))


def _neighbours(rng: random.Random) -> str:
    return listed([invent_country_name(rng)[1] for _ in range(rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 7)))])


def _number(rng: random.Random, largest_exponent: float) -> str:
    number = int(10 ** rng.uniform(0.5, largest_exponent))
    if rng.random() < 0.3:
        number = round(number, -max(0, len(str(number)) - 3))
    form = rng.random()
    if form < 0.84:
        return f"{number:,}"
    if form < 0.9:
        return str(number)
    return f"{number / 1e6:.1f} million" if number > 1e6 else f"{number:,}".replace(",", " ")


def _population(rng: random.Random) -> str:
    return _number(rng, 9.2)


def _area(rng: random.Random) -> str:
    return f"{rng.uniform(0.5, 900):.1f}" if rng.random() < 0.08 else _number(rng, 7.2)


def _domain(rng: random.Random) -> str:
    letters = rng.choices("abcdefghijklmnopqrstuvwxyz", k=2 if rng.random() < 0.85 else rng.randint(3, 6))
    return "." + "".join(letters)


def _calling_code(rng: random.Random) -> str:
    form = rng.random()
    if form < 0.75:
        return f"+{rng.randint(1, 999)}"
    if form < 0.95:
        return f"+{rng.randint(1, 99)} {rng.randint(100, 9999)}"
    return f"+{rng.randint(1, 99)} {rng.randint(100, 999)} and +{rng.randint(1, 99)} {rng.randint(100, 999)}"


VALUES = {
    "capital": invent_name,
    "continent": lambda rng: "",
    "region": _region,
    "currency": lambda rng: "",
    "languages": _languages,
    "population": _population,
    "area": _area,
    "neighbours": _neighbours,
    "domain": _domain,
    "calling_code": _calling_code,
}


def _thing_name(rng: random.Random) -> str:
    noun, other, adjective = (rng.choice(words(use)) for use in ("nouns", "nouns", "adjectives"))
    forms = [
        noun, f"{adjective} {noun}", f"{noun} {other}", f"{noun} with {other}", f"{adjective} {noun} {other}",
        f"{noun} of {other}", f"{noun} and {other}", invent_word(rng).lower(), f"{invent_word(rng).lower()} {noun}",
    ]  # fmt: skip
    return rng.choice(forms)


def _meaning(rng: random.Random) -> str:
    use = {
        name: rng.choice(words(name)) for name in ("adjectives", "kinds", "verbs", "materials", "people", "nouns")
    }
    use["other"], use["second"] = rng.choice(words("adjectives")), rng.choice(words("nouns"))
    return rng.choice(MEANINGS).format(**use)


MEANINGS = [
    "a {adjectives} {kinds} used to {verbs} {nouns}",
    "a {kinds} made of {materials}",
    "any {adjectives} {kinds} with {other} {second}",
    "the {nouns} of a {people}",
    "{adjectives} {materials} from the {nouns} of the {second}",
    "a {people} who wants to {verbs} the {nouns}",
    "a {kinds} for {adjectives} {second}",
    "an act of the {people} that can {verbs} {nouns}",
    "{adjectives} {nouns} or {second}",
    "a small {kinds} with a {adjectives} {materials} and a {other} {nouns}",
    "something {adjectives} that people {verbs} in the {second}",
    "a {adjectives} {nouns}",
    "one of two {other} {nouns}, often seen near {materials}",
    "the part of a {kinds} where the {nouns} and the {second} meet",
]


def _keywords(rng: random.Random) -> str:
    return listed(rng.sample(words("nouns"), rng.choice((1, 2, 2, 3, 3, 4, 5, 6))))
