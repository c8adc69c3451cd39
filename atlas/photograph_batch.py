"""Pictures as the image tower saw them in training: augmented, for examples of the decoder."""

import io
import random

import numpy as np
import torch
from PIL import Image

from mmrag.encoders.pixels import square
from mmrag.training.augment import augment

SIDE_PX = 96
CLEAN_SHARE = 0.25


def photographs(pictures: list[bytes], rng: random.Random) -> list[np.ndarray]:
    """uint8 [height, width, 3 or 4] each: some as they are, most augmented as in the training of the image tower."""
    if not pictures:
        return []
    opened = [Image.open(io.BytesIO(content)).convert("RGBA") for content in pictures]
    layers = np.stack([square(np.asarray(image), SIDE_PX) for image in opened])
    generator = torch.Generator().manual_seed(rng.getrandbits(31))
    changed = (augment(torch.from_numpy(layers), SIDE_PX, generator) * 255).byte().permute(0, 2, 3, 1).numpy()
    return [
        np.asarray(image) if rng.random() < CLEAN_SHARE else pixels
        for image, pixels in zip(opened, changed, strict=True)
    ]
