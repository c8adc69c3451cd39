"""Train the atlas's image tower, from nothing to atlas/weights/image_encoder.

    python -m atlas.train_image

Fetches the artists' drawings, renders them, keeps every picture of a held-out thing out, trains, and stores the
encoder with its curve. Stop it at any time and start it again: it goes on from the last checkpoint.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from atlas.artists import ARTISTS, cache_dir, icon_names, load_artist, picture_px
from atlas.splits import read_splits
from mmrag.config import TextEncoderConfig
from mmrag.encoders.pixels import square
from mmrag.encoders.text import TextEncoder
from mmrag.training.contrastive import ContrastiveConfig, Validation, train_image_tower
from mmrag.training.device import best_device
from mmrag.training.picture_bank import PictureSet

atlas_dir = Path(__file__).parent
weights_dir = atlas_dir / "weights" / "image_encoder"
copy_distance = 0.005
"""Pictures nearer than this (mean difference of 16 x 16 thumbnails, 0..1) are copies of each other."""
alike_distance = 0.03
atlas_config = ContrastiveConfig(
    num_steps=3600,
    num_things=80,
    group_shares={"country": 0.28, "flag": 0.04},
)


def load_gallery() -> PictureSet:
    """Every picture of the knowledge base, by document id."""
    paths = sorted((atlas_dir / "images").glob("*.png"))
    pictures = [square(np.asarray(Image.open(path).convert("RGBA")), picture_px) for path in paths]
    return PictureSet([path.stem for path in paths], np.stack(pictures))


def training_pictures(splits: dict, without: frozenset[str] = frozenset()) -> dict[str, PictureSet]:
    """Artist by artist, the pictures that may be trained on: nothing that shows a held-out thing."""
    sets = {"atlas": load_gallery()}
    for name, artist in ARTISTS.items():
        if not artist.heldout:
            sets[name] = PictureSet(*load_artist(name))
    heldout = {thing for kind in ("countries", "emoji") for thing in splits[kind]["test"]} | without
    return allowed_pictures(sets, heldout, splits["identical"])


def allowed_pictures(
    sets: dict[str, PictureSet], heldout: set[str], identical: list[list[str]]
) -> dict[str, PictureSet]:
    """Without the held-out things, their relatives and their copies; `sets["atlas"]` names the atlas's things.

    Things in one group of `identical` become one thing: nobody can tell them apart.
    """
    refused = heldout | _relatives(sets, heldout, set(sets["atlas"].keys))
    same = {twin: group[0] for group in identical for twin in group[1:]}
    return {name: _allowed(artist, heldout, refused, same) for name, artist in sets.items()}


def _relatives(sets: dict[str, PictureSet], heldout: set[str], atlas: set[str]) -> set[str]:
    """Things outside the atlas that show a held-out thing: the same code point with a gender, a look-alike."""
    parts = {part for thing in heldout for part in _parts(thing)}
    found = {thing for artist in sets.values() for thing in artist.keys if _parts(thing) & parts}
    for artist in sets.values():
        near = _distance_to(artist, heldout) < alike_distance
        found |= {thing for thing, is_near in zip(artist.keys, near, strict=True) if is_near}
    return found - atlas


def _parts(thing: str) -> set[str]:
    people_and_signs = {"200d", "2640", "2642", "1f468", "1f469", "1f9d1", "27a1"}
    return set(thing.split("-")[1:]) - people_and_signs if thing.startswith("emoji-") else set()


def _allowed(artist: PictureSet, heldout: set[str], refused: set[str], same: dict[str, str]) -> PictureSet:
    copies = _distance_to(artist, heldout) < copy_distance
    keep = [key not in refused and not copy for key, copy in zip(artist.keys, copies, strict=True)]
    keys = [same.get(key, key) for key, kept in zip(artist.keys, keep, strict=True) if kept]
    return PictureSet(keys, artist.pictures[np.array(keep, bool)])


def _distance_to(artist: PictureSet, things: set[str]) -> np.ndarray:
    """From each picture to the nearest by the same artist that shows one of the things: float32 [n]."""
    thumbnails = _thumbnails(artist.pictures)
    chosen = thumbnails[np.array([key in things for key in artist.keys], bool)]
    if not len(chosen):
        return np.full(len(thumbnails), np.inf, np.float32)
    return np.array([np.abs(chosen - thumbnail).mean(1).min() for thumbnail in thumbnails], np.float32)


def _thumbnails(pictures: np.ndarray) -> np.ndarray:
    alpha = pictures[..., 3:].astype(np.float32) / 255
    colours = pictures[..., :3] / 255 * alpha + (1 - alpha) * np.array([0.5, 0.6, 0.5], np.float32)
    side = pictures.shape[1] // 16
    return colours.reshape(len(pictures), 16, side, 16, side, 3).mean((2, 4)).reshape(len(pictures), -1)


def descriptions(keys: set[str]) -> dict[str, list[str]]:
    """What may be said of each emoji: its name, its keywords, what it means, and the knowledge base's prose."""
    texts = {thing: [name.replace("-", " ")] for thing, name in icon_names().items() if thing.startswith("emoji-")}
    prose = {document["id"]: document["text"] for document in _read_lines("knowledge.jsonl")}
    for fact in _read_lines("facts.jsonl"):
        if fact["kind"] == "emoji":
            values = fact["values"]
            said = [f"{fact['name']}, {values['keywords']}" if values.get("keywords") else "", values.get("meaning")]
            texts[fact["document_id"]] = [fact["name"], prose[fact["document_id"]], *filter(None, said)]
    return {thing: said for thing, said in texts.items() if thing in keys}


def _read_lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (atlas_dir / name).read_text().splitlines()]


def embed_descriptions(texts: dict[str, list[str]]) -> dict[str, np.ndarray]:
    encoder = TextEncoder(TextEncoderConfig())
    embeddings = encoder.encode([text for said in texts.values() for text in said])
    ends = np.cumsum([len(said) for said in texts.values()])[:-1]
    return dict(zip(texts, np.split(embeddings, ends), strict=True))


def validation_things(splits: dict, one_in: int) -> frozenset[str]:
    """Some of the things one may train on, kept aside to draw the curve."""
    return frozenset(splits["countries"]["train"][::one_in] + splits["emoji"]["train"][::one_in])


def validate_on(things: frozenset[str], kind: str, artists: dict[str, PictureSet], gallery: PictureSet) -> Validation:
    chosen = [
        (key, picture)
        for artist in artists.values()
        for key, picture in zip(artist.keys, artist.pictures, strict=True)
        if key in things and key.startswith(kind)
    ]
    return Validation(gallery, PictureSet([key for key, _ in chosen], np.stack([picture for _, picture in chosen])))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=cache_dir.parent / "image_tower")
    parser.add_argument("--device", default=best_device(), help="default: %(default)s")
    arguments = parser.parse_args(words)
    splits = read_splits()
    aside = validation_things(splits, one_in=40)
    pictures = training_pictures(splits, aside)
    keys = {key for artist in pictures.values() for key in artist.keys}
    texts = embed_descriptions(descriptions(keys))
    others = {name: PictureSet(*load_artist(name)) for name, artist in ARTISTS.items() if not artist.heldout}
    gallery = load_gallery()
    validations = {kind: validate_on(aside, kind, others, gallery) for kind in ("country", "emoji")}
    encoder = train_image_tower(
        pictures, texts, atlas_config, arguments.out, validations=validations, device=arguments.device
    )
    encoder.save(weights_dir)
    for name in ("curve.jsonl", "curve.png"):
        shutil.copy(arguments.out / name, weights_dir / name)


if __name__ == "__main__":
    main()
