"""Pictures as people send them: each a little different, so that no cache has seen it before."""

import io
import random

from PIL import Image, ImageEnhance

SIDE_PX = 256
MAX_TURN_DEGREES = 8


def jittered(picture: Image.Image, rng: random.Random) -> bytes:
    """A JPEG of an RGBA picture on some background: turned, scaled, lit and compressed as chance has it."""
    scale = SIDE_PX * rng.uniform(0.7, 0.95) / max(picture.size)
    shown = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BILINEAR)
    shown = shown.rotate(rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES), Image.Resampling.BILINEAR, expand=True)
    scene = Image.new("RGB", (SIDE_PX, SIDE_PX), tuple(rng.randrange(256) for _ in range(3)))
    scene.paste(shown, [(SIDE_PX - side) // 2 + rng.randint(-6, 6) for side in shown.size], shown)
    file = io.BytesIO()
    ImageEnhance.Brightness(scene).enhance(rng.uniform(0.8, 1.15)).save(file, "JPEG", quality=rng.randint(70, 92))
    return file.getvalue()
