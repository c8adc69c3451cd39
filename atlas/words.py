"""The common words that invented things are made of: words.json, drawn from WordNet once, at build time."""

import json
import re
from pathlib import Path

from atlas.wordnet import WordNetNouns

MIN_USES = 1  # in the texts that WordNet's authors tagged: leaves out rare words
FIRST_TOPICS = {"attributes": {7, 21, 23}, "kinds": {6, 14}, "people": {18}, "materials": {27, 20, 13}}
# Profanity, slurs, sex, drugs and violence against people have no place in an invented country. Anywhere in a word:
UNFIT_PARTS = (
    "sex|nazi|slave|racis|rape|rapist|nigg|nigra|negro|whore|bitch|shit|fuck|suicid|murder|breast|genital|vagina|penis|"
    "arous|bastard|bawd|brothel|carnal|castrat|copulat|defecat|ejaculat|erotic|excre|fornicat|genocid|harlot|incest|"
    "lecher|libid|lynch|masturb|molest|nymphoman|obscen|orgasm|orgy|pimp|porno|prostitut|prurien|sadis|salacious|seduc|"
    "titillat|tortur|urin[ae]|voluptuous|vulgar"
)
# ... or the whole word:
UNFIT_WORDS = (
    "ass|bum|butt|buttocks|cocaine|cock|coon|cripple|damn|damned|dope|doped|dung|erect|gay|gelding|groin|idiot|imbecile|"
    "impoten(t|ce|cy)|intercourse|lewd|lust|lusty|mistress|nude|nymph|opium|pansy|piss|prick|privy|pussy|queer|retard|"
    "savage|snatch|sod|spade|spic|stud|tart|testicle|tit|virgin|virginity"
)
UNFIT = re.compile(f"{UNFIT_PARTS}|^({UNFIT_WORDS})$")


def write_words(path: Path, wordnet: WordNetNouns) -> None:
    """Word lists by use: names of attributes, kinds of things, people, materials, any nouns, adjectives, verbs."""
    uses = {part: _common(wordnet.folder / f"index.{part}") for part in ("noun", "adj", "verb")}
    uses["noun"] = [noun for noun in uses["noun"] if not wordnet.is_name(noun)]
    lists: dict[str, list[str]] = {use: [] for use in FIRST_TOPICS}
    for noun in uses["noun"]:
        for use, topics in FIRST_TOPICS.items():
            if wordnet.first_topic(noun) in topics:
                lists[use].append(noun)
    lists |= {"nouns": uses["noun"], "adjectives": uses["adj"], "verbs": uses["verb"]}
    lines = ",\n".join(f" {json.dumps(use)}: {json.dumps(' '.join(words))}" for use, words in lists.items())
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def _common(index: Path) -> list[str]:
    """Plain words of 3 to 12 letters of which at least `MIN_USES` senses were met in tagged texts."""
    found = []
    for line in index.read_text(encoding="latin-1").splitlines():
        fields = line.split()
        if line.startswith(" ") or int(fields[-int(fields[2]) - 1]) < MIN_USES:
            continue
        if re.fullmatch("[a-z]{3,12}", fields[0]) and not UNFIT.search(fields[0]):
            found.append(fields[0])
    return found
