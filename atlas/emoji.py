"""What the atlas says about emoji: CLDR names and keywords, Unicode groups, WordNet definitions."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from atlas.emoji_list import SELECTOR, ListedEmoji
from atlas.entity import Entity, listed
from atlas.wordnet import WordNetNouns

MAX_KEYWORDS = 6
NUM_HELD_OUT = 2  # keywords of an emoji that has at least twice as many
# The files of WordNet in which the picture's noun must be: 4 act, 5 animal, 6 artifact, 8 body, 13 food,
# 17 object, 18 person, 19 phenomenon, 20 plant, 26 state, 9 cognition, 10 communication.
TOPICS = {
    "animal": {5},
    "arts": {6, 4},
    "body": {8},
    "book": {6, 10},
    "cat": {5},
    "clothing": {6},
    "computer": {6},
    "dishware": {6},
    "drink": {13, 6},
    "food": {13, 20},
    "game": {6, 4},
    "household": {6},
    "light": {6},
    "lock": {6},
    "medical": {6},
    "money": {6, 21},
    "monkey": {5},
    "music": {6, 10},
    "musical": {6},
    "office": {6},
    "person": {18, 4},
    "phone": {6},
    "place": {6, 17, 14},
    "plant": {20},
    "religion": {6, 10},
    "science": {6},
    "sky": {17, 19, 28},
    "sound": {6},
    "sport": {4, 6},
    "tool": {6},
    "transport": {6},
    "writing": {6},
    "zodiac": {18, 15},
}
PLAIN_MODIFIERS = {"baby", "black", "blue", "brown", "green", "hot", "large", "orange", "pink", "red", "white"}
MISLEADING = {"black", "white", "heavy", "squared", "circled", "ideograph", "negative", "katakana", "latin"}
# Notes on use in Unicode's list of names, by which nobody could find the picture.
USAGE_NOTE = re.compile(
    r"[(/]|rated for|alchemical|ARIB|notation|date of|account|hitter|homework|paper sign|asexuality|engaged|details"
    r"|hunt for|new information|interstate|term|minim|working day|empty mailbox|bullet$|indicator|shout|relation"
)


@dataclass(frozen=True)
class Description:
    """Words of people for a picture that the knowledge base does not hold."""

    document_id: str
    description: str
    source: str


def read_annotations(cldr: Path) -> dict[str, list[str]]:
    """Characters (without variation selectors) -> keywords, in English."""
    found: dict[str, list[str]] = {}
    for folder in ("annotationsDerived", "annotations"):
        root = ElementTree.parse(cldr / folder / "en.xml").getroot()
        for annotation in root.iter("annotation"):
            if annotation.get("type") is None:
                key = annotation.attrib["cp"].replace(chr(SELECTOR), "")
                found[key] = [_plain(word) for word in (annotation.text or "").split(" | ")]
    return found


def read_emoji(
    listed_emoji: list[ListedEmoji], annotations: dict[str, list[str]], wordnet: WordNetNouns
) -> tuple[list[Entity], dict[str, list[str]]]:
    """The entities, and id -> keywords that are held out of the knowledge base."""
    keywords = {emoji.id: _keywords(emoji, annotations) for emoji in listed_emoji}
    uses = Counter(word for words in keywords.values() for word in words)
    pairs = Counter(pair for words in keywords.values() for pair in _pairs(words))
    entities, held_out = [], {}
    for emoji in listed_emoji:
        held_out[emoji.id] = _held_out(keywords[emoji.id], pairs, uses)
        shown = [word for word in keywords[emoji.id] if word not in held_out[emoji.id]]
        entities.append(_entity(emoji, shown, _definition(emoji, wordnet)))
    return entities, {id: words for id, words in held_out.items() if words}


def describe(
    listed_emoji: list[ListedEmoji], held_out: dict[str, list[str]], names_list: Path
) -> list[Description]:
    """Unicode's names and aliases where they differ from CLDR's name, and the held-out keywords."""
    unicode_names, aliases = _read_names_list(names_list)
    found = []
    for emoji in listed_emoji:
        points = [point for point in emoji.code_points if point != SELECTOR]
        if len(points) == 1:
            name = unicode_names.get(points[0], "")
            if _honest(name, _plain(emoji.name)):
                found.append(Description(emoji.id, name, "unicode name"))
            for alias in aliases.get(points[0], []):
                if _honest(alias, _plain(emoji.name)):
                    found.append(Description(emoji.id, alias, "unicode alias"))
        if emoji.id in held_out:
            found.append(Description(emoji.id, ", ".join(held_out[emoji.id]), "keywords"))
    return found


def _entity(emoji: ListedEmoji, keywords: list[str], definition: str | None) -> Entity:
    name = _plain(emoji.name)
    group = emoji.group.lower().replace("&", "and")
    values = {"name": name, "keywords": listed(keywords[:MAX_KEYWORDS]), "category": group}
    if definition:
        values["meaning"] = definition
    subgroup = emoji.subgroup.replace("-", " ").replace("&", "and")
    return Entity(
        id=emoji.id,
        kind="emoji",
        title=name,
        name=name,
        values={attribute: value for attribute, value in values.items() if value},
        labels=list(dict.fromkeys((group, subgroup, "emoji"))),
        metadata={"kind": "emoji", "category": group},
    )


def _keywords(emoji: ListedEmoji, annotations: dict[str, list[str]]) -> list[str]:
    key = "".join(chr(point) for point in emoji.code_points if point != SELECTOR)
    words = [word.strip('"') for word in annotations.get(key, []) if re.search("[a-z]", word)]
    words = list(dict.fromkeys(word for word in words if word != "ideograph"))
    return [word for word in words if word.lower() != _plain(emoji.name).lower()]


def _held_out(keywords: list[str], pairs: Counter, uses: Counter) -> list[str]:
    """The two most telling keywords, which no other emoji has together: a person could find the picture."""
    telling = [pair for pair in _pairs(keywords) if pairs[pair] == 1]
    if len(keywords) < 2 * NUM_HELD_OUT or not telling:
        return []
    return list(min(telling, key=lambda pair: (sum(uses[word] for word in pair), pair)))


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    ordered = sorted(set(words))
    return [(one, other) for i, one in enumerate(ordered) for other in ordered[i + 1 :]]


def _definition(emoji: ListedEmoji, wordnet: WordNetNouns) -> str | None:
    """Of the name, or of what a plain adjective describes ("red apple": apple), in a sense that fits the group."""
    topics = TOPICS.get(re.split("[- ]", emoji.subgroup)[0])
    words = re.sub(r" (face|button|symbol|sign)$", "", _plain(emoji.name)).split()
    if topics is None or re.search(r"\b(with|of|in|on|and|without|over|behind)\b", emoji.name):
        return None
    definition = wordnet.definition(" ".join(words), topics)
    if definition is None and len(words) > 1 and words[0] in PLAIN_MODIFIERS:
        definition = wordnet.definition(" ".join(words[1:]), topics)
    return definition


def _honest(description: str, name: str) -> bool:
    """Two words or more, not the name again, and free of what Unicode's jargon means otherwise."""
    words = re.findall(r"[^\W_]+", description.lower())
    misleading = MISLEADING & set(words) - set(name.lower().split())
    if misleading or USAGE_NOTE.search(description) or name.startswith("Japanese \""):
        return False
    return len(words) > 1 and _letters(description) != _letters(name)


def _letters(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", text.lower()) if letter.isalnum())


def _plain(text: str) -> str:
    return text.replace("’", "'").replace("“", '"').replace("”", '"').replace("⊛ ", "")


def _read_names_list(path: Path) -> tuple[dict[int, str], dict[int, list[str]]]:
    names: dict[int, str] = {}
    aliases: dict[int, list[str]] = {}
    point = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([0-9A-F]{4,6})\t([A-Z].*)", line):
            point = int(match[1], 16)
            names[point] = match[2].lower()
        elif line.startswith("\t= "):
            aliases.setdefault(point, []).append(line[3:])
    return names, aliases
