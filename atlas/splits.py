"""Train and test sides, by entity; pictures that look alike stay on one side."""

import functools
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

ATLAS = Path(__file__).parent
TEST_SHARE = 0.2
SIDE = 32  # pictures are compared at 32 x 32
# Root mean square distances of 0..255 channels. Flags: Monaco and Indonesia (27.6) are alike; emoji: spades
# and clubs are, two positions of a clock's hands are not.
ALIKE = {"countries": 28.0, "emoji": 12.5}
IDENTICAL = 2.0


@functools.cache
def read_splits(folder: Path = ATLAS) -> dict:
    """splits.json: {"countries" and "emoji": {"train", "test": [id]}, "lookalikes" and "identical": [[id]]};
    treat as read-only."""
    return json.loads((folder / "splits.json").read_text(encoding="utf-8"))


def make_splits(pictures: dict[str, dict[str, bytes]]) -> dict:
    """`pictures` is {"countries": {id: png}, "emoji": {id: png}}; the result is what splits.json holds."""
    splits: dict = {"lookalikes": [], "identical": []}
    for kind, pngs in pictures.items():
        ids = sorted(pngs)
        small = [_unwaved(pngs[id]) if kind == "countries" else _cropped(pngs[id]) for id in ids]
        distances = _distances(np.stack(small))
        groups = _connected(ids, distances < ALIKE[kind])
        splits[kind] = _two_sides(groups)
        splits["lookalikes"] += [group for group in groups if len(group) > 1]
        splits["identical"] += [group for group in _connected(ids, distances < IDENTICAL) if len(group) > 1]
    return splits


def _two_sides(groups: list[list[str]]) -> dict[str, list[str]]:
    sides: dict[str, list[str]] = {"train": [], "test": []}
    for group in groups:
        digest = hashlib.sha256(group[0].encode()).digest()
        is_test = int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32
        sides["test" if is_test else "train"] += group
    return {side: sorted(ids) for side, ids in sides.items()}


def _cropped(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    image = image.crop(image.getchannel("A").getbbox())
    grey = Image.new("RGBA", image.size, (128, 128, 128, 255))
    grey.alpha_composite(image)
    return np.asarray(grey.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)


def _unwaved(png: bytes) -> np.ndarray:
    """The flag pulled flat, column by column: flags of other proportions wave differently."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    opaque = pixels[..., 3] > 127
    columns = []
    for x in np.flatnonzero(opaque.any(axis=0)):
        y = np.flatnonzero(opaque[:, x])
        column = Image.fromarray(np.ascontiguousarray(pixels[y[0] : y[-1] + 1, x : x + 1, :3]))
        columns.append(np.asarray(column.resize((1, SIDE), Image.Resampling.BOX))[:, 0])
    flat = Image.fromarray(np.stack(columns, axis=1))
    return np.asarray(flat.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)


def _distances(pictures: np.ndarray) -> np.ndarray:
    """Root mean square distance between any two of [n, 32, 32, 3]: [n, n]."""
    rows = pictures.reshape(len(pictures), -1).astype(np.float64)
    squares = (rows**2).sum(axis=1)
    square_distances = squares[:, None] + squares - 2 * rows @ rows.T
    return np.sqrt(np.maximum(square_distances, 0) / rows.shape[1])


def _connected(ids: list[str], alike: np.ndarray) -> list[list[str]]:
    """Groups of ids that a chain of likeness connects, in the order of their first members."""
    groups, seen = [], set()
    for start in range(len(ids)):
        if start in seen:
            continue
        group, waiting = {start}, [start]
        while waiting:
            near = set(np.flatnonzero(alike[waiting.pop()]).tolist()) - group
            group |= near
            waiting += near
        seen |= group
        groups.append([ids[index] for index in sorted(group)])
    return groups
