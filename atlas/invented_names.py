"""Made-up names: syllables of several sound systems, and real words put together anew."""

import functools
import json
import random
from pathlib import Path

SOUNDS = [  # onsets, vowels, closing consonants, endings
    ("b d f g k l m n p r s t v z", "a e i o u", "n r l s", "a ia o e an ar"),
    ("b br ch d dr f g gr k kr l m n p pr r s sk st t tr v", "a e i o u", "n r l s t nd rk", "ia land en ov sk ad"),
    ("h k kh m n ng p ph s t th w y", "a ai e i o u uo", "n ng k t m", "ang ong an eng uan"),
    ("f h k l m n p t v w", "a e i o u au ai oa", "", "a u o i ea"),
    ("b d dh gh h j kh l m n q r s sh t y z", "a i u aa", "b d f l m n r s sh", "a iya an at ir ah"),
    ("b c d f g l m n p qu r s t v", "a e i o u ie ua é á ó", "n r s l", "a o ia ado uela és ção"),
    ("b d f g h j k l m n r s t v kv", "a e i o u y ø å ö ä", "d k l n r s t ld rg", "en a vik borg stad ö"),
    ("b c č d h j k l m n p r s š t v z ž", "a e i o u y", "c k l n r s v", "ov ice any ec ín ava"),
    ("ch h k kw l m mb n nd ng p r s t w y z", "a e i o u", "", "a i u o ndi mba"),
    ("d f gl l ll m n p r rh s t th w c", "a e i o u y ae", "n r l s th dd", "wy eth an on as or"),
]
_sounds = [tuple(part.split() for part in sounds) for sounds in SOUNDS]
LARGE = ["Islands", "Republic", "Kingdom", "Territory", "Union", "Federation", "Isles", "Emirates", "Coast"]
WORD_NAME_SHARE, LETTER_NAME_SHARE = 0.15, 0.05


@functools.cache
def words(use: str) -> list[str]:
    """The list `use` of words.json: "nouns", "adjectives", "verbs", "attributes", "kinds", "people", "materials"."""
    return _word_lists()[use].split()


@functools.cache
def _word_lists() -> dict[str, str]:
    return json.loads((Path(__file__).parent / "words.json").read_text(encoding="utf-8"))


def invent_word(rng: random.Random) -> str:
    """One capitalised word in one sound system."""
    onsets, vowels, codas, endings = rng.choice(_sounds)
    text = ""
    for _ in range(rng.choice((1, 1, 2, 2, 2, 3))):
        text += (rng.choice(onsets) if text or rng.random() < 0.85 else "") + rng.choice(vowels)
        text += rng.choice(codas) if codas and rng.random() < 0.4 else ""
    if rng.random() < 0.6:
        text = text.rstrip("aeiou") + rng.choice(endings)
    return (text if len(text) > 2 else text + rng.choice(onsets) + rng.choice(endings)).capitalize()


def invent_name(rng: random.Random) -> str:
    """A name of a place, mostly one word, sometimes of real words or of mere letters."""
    kind = rng.random()
    if kind < WORD_NAME_SHARE:
        return " ".join(rng.choice(words("nouns")).capitalize() for _ in range(rng.choice((1, 2))))
    if kind < WORD_NAME_SHARE + LETTER_NAME_SHARE:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(4, 9))).capitalize()
    name = invent_word(rng)
    form = rng.random()
    if form < 0.1:
        return f"{name} {invent_word(rng)}"
    if form < 0.16:
        return f"{rng.choice(('New', 'Saint', 'San', 'Port', 'North', 'South', 'Upper', 'El', 'La'))} {name}"
    if form < 0.19:
        return f"{name}-{invent_word(rng)}"
    return f"{name}'{invent_word(rng).lower()}" if form < 0.205 else name


def invent_country_name(rng: random.Random) -> tuple[str, str]:
    """(title, name in a sentence): ("Sor Islands", "the Sor Islands")."""
    form = rng.random()
    if form < 0.08:
        title = f"{invent_name(rng)} {rng.choice(LARGE)}"
        return title, f"the {title}"
    if form < 0.11:
        return (title := f"{rng.choice(LARGE[1:5])} of {invent_name(rng)}"), f"the {title}"
    if form < 0.16:
        title = f"{invent_name(rng)} and {invent_name(rng)}"
        return title, title
    title = invent_name(rng)
    return title, f"the {title}" if rng.random() < 0.03 else title


def invent_person(rng: random.Random) -> str:
    """"Ada Lovenik", sometimes with an initial."""
    middle = f" {rng.choice('ABCDEFGHJKLMNPRSTVW')}." if rng.random() < 0.2 else ""
    return f"{invent_word(rng)}{middle} {invent_word(rng)}"
