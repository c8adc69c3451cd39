"""One way from a picture of any size and transparency to the square a vision model sees."""

import numpy as np
from PIL import Image

PREPROCESSING_VERSION = "square-1"
"""Part of every image embedding's fingerprint: change it when a picture would reach the network as other pixels."""

MAX_ASPECT = 2.0
"""Longer pictures are padded to this ratio of sides before they are stretched into a square."""


def square(picture: np.ndarray, side_px: int) -> np.ndarray:
    """Trim transparent margins and resample to a square.

    picture: uint8 [H, W, 3 or 4]. Returns uint8 [side_px, side_px, 4], alpha 255 where opaque.
    Raises ValueError for any other shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4):
        raise ValueError(f"a picture is uint8 [H, W, 3 or 4], got {picture.dtype} {list(picture.shape)}")
    if picture.shape[2] == 3:
        picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    trimmed = _limit_aspect(_trim(picture))
    premultiplied = Image.fromarray(trimmed, "RGBA").convert("RGBa")
    resized = premultiplied.resize((side_px, side_px), Image.Resampling.BILINEAR)
    return np.asarray(resized.convert("RGBA"))


def _trim(picture: np.ndarray) -> np.ndarray:
    visible = picture[..., 3] > 16
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    if not len(rows):
        return picture
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _limit_aspect(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    tall, wide = max(height, round(width / MAX_ASPECT)), max(width, round(height / MAX_ASPECT))
    top, left = (tall - height) // 2, (wide - width) // 2
    return np.pad(picture, ((top, tall - height - top), (left, wide - width - left), (0, 0)))
