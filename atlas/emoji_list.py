"""Which emoji the atlas holds, from the Unicode list emoji-test.txt."""

import re
from dataclasses import dataclass
from pathlib import Path

SKIN_TONES = range(0x1F3FB, 0x1F400)
KEYCAP, TAG_END, JOINER, SELECTOR = 0x20E3, 0xE007F, 0x200D, 0xFE0F
GENDER_SIGNS, PEOPLE = {0x2640, 0x2642}, {0x1F468, 0x1F469}


@dataclass(frozen=True)
class ListedEmoji:
    """One line of emoji-test.txt: its code points, CLDR short name, group and subgroup."""

    code_points: tuple[int, ...]
    name: str
    group: str
    subgroup: str

    @property
    def id(self) -> str:
        return "emoji-" + "-".join(f"{point:x}" for point in self.code_points if point != SELECTOR)


def read_emoji_list(path: Path) -> list[ListedEmoji]:
    """Every fully-qualified emoji in the order of the file, flags and all."""
    found, group, subgroup = [], "", ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"# (group|subgroup): (.*)", line):
            group, subgroup = (match[2], "") if match[1] == "group" else (group, match[2])
        elif match := re.match(r"([0-9A-F ]+?) *; fully-qualified *# \S+ E[\d.]+ (.*)", line):
            points = tuple(int(point, 16) for point in match[1].split())
            found.append(ListedEmoji(points, match[2], group, subgroup))
    return found


def country_codes(listed: list[ListedEmoji]) -> set[str]:
    """Lower-case alpha-2 codes that have a flag emoji."""
    flags = (emoji.code_points for emoji in listed if emoji.subgroup == "country-flag")
    return {"".join(chr(point - 0x1F1E6 + ord("a")) for point in flag) for flag in flags}


def flag_code_points(code: str) -> tuple[int, ...]:
    """The regional indicators of a country code: "pe" is P, E."""
    return tuple(ord(letter) - ord("a") + 0x1F1E6 for letter in code)


def distinct_things(listed: list[ListedEmoji]) -> list[ListedEmoji]:
    """Without country flags, keycaps, skin tones, and the man and woman forms of one and the same person."""
    return [emoji for emoji in listed if emoji.group != "Component" and not _is_variant(emoji)]


def _is_variant(emoji: ListedEmoji) -> bool:
    points = emoji.code_points
    gendered = JOINER in points and (GENDER_SIGNS & set(points) or PEOPLE & set(points))
    coloured = any(point in SKIN_TONES for point in points)
    flag = emoji.subgroup in ("country-flag", "subdivision-flag")
    return bool(gendered or coloured or flag or KEYCAP in points or TAG_END in points)
