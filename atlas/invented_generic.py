"""Entities of any kind with attributes of any name: they teach to read, whatever the subject."""

import random
from dataclasses import dataclass

from atlas.entity import listed
from atlas.invented_names import invent_name, invent_person, invent_word, words
from atlas.wording import fill, load_schema

PREFIXES = ["maximum", "average", "annual", "original", "first", "second", "official", "usual", "final", "minimum"]
MONTHS = "January February March April May June July August September October November December"
SHEET_SHARE = 0.25


@dataclass(slots=True)
class GenericQuestion:
    """A page about an invented entity, and one question about it.

    Attributes:
        title, text: of the page; `values` are all its facts, attribute -> surface.
        attribute, answer: what is asked, and the surface in the text.
        templates: wordings to ask it in, by "named" and "shown"; blanks are {name} or {names}, and {attribute}.
    """

    title: str
    text: str
    values: dict[str, str]
    attribute: str
    answer: str

    def ask(self, rng: random.Random, form: str = "named", wordings: str = "train") -> str:
        """A question for the answer, naming the entity, or as beside its picture ("shown")."""
        template = rng.choice(load_schema()["generic"]["questions"][wordings][form])
        return fill(template, self.title, attribute=self.attribute)


def invent_generic(rng: random.Random) -> GenericQuestion:
    """A company, a machine, a museum, a chemical, a person ... with 2 to 8 facts, one of them asked about."""
    name = _entity_name(rng)
    values = {_attribute(rng): _value(rng) for _ in range(rng.randint(2, 8))}
    attribute = rng.choice(list(values))
    return GenericQuestion(name, write_generic(rng, name, values), values, attribute, values[attribute])


def write_generic(rng: random.Random, name: str, values: dict[str, str]) -> str:
    """The facts in prose, or as lines of "Attribute: value"."""
    schema = load_schema()["generic"]
    attributes = rng.sample(list(values), len(values))
    if rng.random() < SHEET_SHARE:
        joint = rng.choice([". ", "\n", "; ", ", "])
        lines = [schema["sheet"].format(attribute=key.capitalize(), value=values[key]) for key in attributes]
        return joint.join([name, *lines] if rng.random() < 0.7 else lines)
    sentences: list[str] = []
    for key in attributes:
        template = rng.choice(schema["facts"])
        if not sentences and "{name" not in template:
            template = schema["facts"][0]
        sentences.append(fill(template, name, attribute=key, article=_article(key), value=values[key]))
    return " ".join(sentences)


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _entity_name(rng: random.Random) -> str:
    noun, kind = rng.choice(words("nouns")), rng.choice(words("kinds"))
    forms = [
        f"{invent_word(rng)} {rng.randint(2, 9000)}", f"the {invent_name(rng)} {kind.capitalize()}",
        invent_person(rng), f"{invent_word(rng)} {rng.choice(('Inc.', 'Ltd', 'AG', 'Group', 'and Sons', 'Labs'))}",
        invent_word(rng), f"the {rng.choice(words('adjectives'))} {kind}", f"{invent_word(rng).lower()} {noun}",
        f"Project {invent_word(rng)}", f"{''.join(rng.choices('ABCDEFGHKLMNPRSTX', k=2))}-{rng.randint(1, 999)}",
        f"{noun} {rng.randint(1, 99)}", f"the Treaty of {invent_name(rng)}", f"{kind} {invent_word(rng)}",
    ]  # fmt: skip
    return rng.choice(forms)


def _attribute(rng: random.Random) -> str:
    form = rng.random()
    if form < 0.45:
        return rng.choice(load_schema()["generic"]["attributes"])
    noun = rng.choice(words("attributes" if form < 0.75 else "nouns"))
    if form > 0.92:
        return f"{rng.choice(words('nouns'))} {noun}"
    return f"{rng.choice(PREFIXES)} {noun}" if rng.random() < 0.2 else noun


def _value(rng: random.Random) -> str:
    return rng.choice(VALUES)(rng)


def _quantity(rng: random.Random) -> str:
    number = 10 ** rng.uniform(0, 5)
    unit = rng.choice(load_schema()["generic"]["units"])
    return f"{number:,.{rng.choice((0, 0, 1, 2))}f} {unit}".replace(" %", "%")


def _date(rng: random.Random) -> str:
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS.split())} {rng.randint(1500, 2030)}"


def _phrase(rng: random.Random) -> str:
    return f"{rng.choice(words('adjectives'))} {rng.choice(words('nouns'))}"


def _code(rng: random.Random) -> str:
    letters = "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=rng.randint(1, 3)))
    return f"{letters}{rng.choice(('-', '', '/'))}{rng.randint(10, 99999)}"


def _list(rng: random.Random) -> str:
    return listed(rng.sample(words("nouns"), rng.randint(2, 4)))


def _plain_number(rng: random.Random) -> str:
    return f"{int(10 ** rng.uniform(0.3, 8)):,}"


def _tokens(rng: random.Random) -> str:
    """Words from anywhere, as answers may be anything."""
    uses = ("nouns", "adjectives", "verbs", "materials", "people")
    return " ".join(rng.choice(words(rng.choice(uses))) for _ in range(rng.randint(1, 5)))


VALUES = [
    _quantity, _quantity, _date, _phrase, _code, _list, _plain_number, _tokens, _tokens, invent_name, invent_person,
    lambda rng: str(rng.randint(1000, 2030)), lambda rng: rng.choice(words("materials")),
    lambda rng: f"${rng.randint(1, 999)} {rng.choice(('million', 'billion', 'thousand'))}",
]  # fmt: skip
