"""How well the image tower finds a picture's entity in the whole knowledge base.

    python -m atlas.measure_pictures [--encoder FOLDER]

Queries are pictures the tower never trained on: held-out artists' drawings, and changed gallery pictures. Flags
that are the same, or nearly the same, as another country's are counted apart: nobody can tell them by sight.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from mmrag.encoders.image import ImageEncoder
from mmrag.encoders.pixels import square
from mmrag.training.augment import augment

atlas_dir = Path(__file__).parent
near_duplicates = [["country-td", "country-ro"], ["country-id", "country-mc"]]
"""Flags that differ by a shade or by their proportions alone, besides the identical ones in splits.json."""


@dataclass(frozen=True)
class Row:
    """Recall of one kind of query. Near-duplicates are left out of the recalls and counted apart."""

    queries: str
    recall_at_1: float
    recall_at_5: float
    num_queries: int
    num_near_duplicates: int = 0
    near_duplicates_recall_at_1: float | None = None


def measure_pictures(encoder: ImageEncoder, atlas: Path = atlas_dir) -> list[Row]:
    """Augmented gallery pictures, then each held-out artist's flags and emoji, seen and unseen in training."""
    ids, pictures = read_pictures(atlas / "images")
    gallery = _embed(encoder, pictures)
    splits = json.loads((atlas / "splits.json").read_text())
    alike = _groups(splits)
    queries = _embed(encoder, photographed(pictures))
    rows = [_row("augmented gallery pictures", queries, ids, gallery, ids, alike)]
    queries = _embed(encoder, changed_as_in_training(pictures, encoder.tower.config.side_px))
    rows.append(_row("gallery pictures changed as in training", queries, ids, gallery, ids, alike))
    for artist, kind in (("cif", "countries"), ("fxemoji", "emoji")):
        shown, drawings = read_pictures(atlas / "heldout" / artist)
        embeddings = _embed(encoder, drawings)
        for name, side in (("trained on", "train"), ("never seen", "test")):
            chosen = [i for i, key in enumerate(shown) if key in set(splits[kind][side])]
            keys = [shown[i] for i in chosen]
            rows.append(_row(f"{artist}: {kind} {name}", embeddings[chosen], keys, gallery, ids, alike))
    return rows


def read_pictures(folder: Path) -> tuple[list[str], list[np.ndarray]]:
    """Document ids and pictures (uint8 RGBA) of a folder of `<document id>.png`."""
    paths = sorted(folder.glob("*.png"))
    return [path.stem for path in paths], [np.asarray(Image.open(path).convert("RGBA")) for path in paths]


def photographed(pictures: list[np.ndarray], seed: int = 7) -> list[np.ndarray]:
    """Each picture once on a background of one colour, rotated to 15 degrees, cropped to 75 to 100 % of each side,
    blurred and noisy: uint8 RGB, about 96 pixels."""
    random = np.random.default_rng(seed)
    return [_photograph(Image.fromarray(picture), random) for picture in pictures]


def _photograph(picture: Image.Image, random: np.random.Generator) -> np.ndarray:
    turned = picture.resize((96, 96)).rotate(random.uniform(-15, 15), Image.Resampling.BICUBIC)
    scene = Image.new("RGBA", turned.size, tuple(int(c) for c in random.integers(0, 256, 3)))
    scene.alpha_composite(turned)
    width, height = (round(96 * random.uniform(0.75, 1)) for _ in "xy")
    left, top = int(random.integers(0, 97 - width)), int(random.integers(0, 97 - height))
    photograph = scene.convert("RGB").crop((left, top, left + width, top + height))
    blurred = np.asarray(photograph.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.5))), np.float32)
    noise = random.normal(0, random.uniform(0, 12), blurred.shape)
    return (blurred + noise).clip(0, 255).astype(np.uint8)


def changed_as_in_training(pictures: list[np.ndarray], side_px: int, seed: int = 7) -> list[np.ndarray]:
    """The training's whole augmentation, waving, perspective, light and occlusion on top: uint8 RGB."""
    squares = torch.from_numpy(np.stack([square(picture, 80) for picture in pictures]))
    images = augment(squares, side_px, torch.Generator().manual_seed(seed))
    return list((images.permute(0, 2, 3, 1) * 255).round().byte().numpy())


def _embed(encoder: ImageEncoder, pictures: list[np.ndarray]) -> np.ndarray:
    parts = [encoder.encode(pictures[start : start + 64]) for start in range(0, len(pictures), 64)]
    return np.concatenate([part.embeddings for part in parts])


def _groups(splits: dict) -> dict[str, set[str]]:
    """For each document, those it may be taken for (itself included)."""
    groups: dict[str, set[str]] = {}
    for group in [*splits["identical"], *near_duplicates]:
        for key in group:
            groups.setdefault(key, set()).update(group)
    return groups


def _row(
    name: str,
    queries: np.ndarray,
    keys: list[str],
    gallery: np.ndarray,
    gallery_keys: list[str],
    alike: dict[str, set[str]],
) -> Row:
    order = np.argsort(-(queries @ gallery.T), axis=1)[:, :5]
    hits = np.array([[gallery_keys[j] == key for j in row] for key, row in zip(keys, order, strict=True)])
    apart = np.array([key in alike for key in keys])
    plain, twins = hits[~apart], hits[apart]
    return Row(
        name,
        float(plain[:, 0].mean()),
        float(plain.any(1).mean()),
        len(plain),
        len(twins),
        float(twins[:, 0].mean()) if len(twins) else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, default=atlas_dir / "weights" / "image_encoder")
    for row in measure_pictures(ImageEncoder.load(parser.parse_args().encoder)):
        print(json.dumps({key: round(v, 4) if isinstance(v, float) else v for key, v in asdict(row).items()}))


if __name__ == "__main__":
    main()
