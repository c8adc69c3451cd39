"""Pictures as people send them: turned, cropped, blurred, noisy, on some background, as a JPEG.

Written apart from the augmentation that the image tower is trained with, so that an evaluation does not only
measure what training did.
"""

import io
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE_PX = 256
MAX_TURN_DEGREES = 12
MAX_CROP = 0.08
MAX_BLUR_PX = 2.0
MAX_NOISE = 14.0


def photograph(content: bytes, rng: random.Random) -> bytes:
    """A JPEG of a picture lying on some background, seen a little askew."""
    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    picture = picture.crop(picture.getchannel("A").getbbox())
    picture = _cropped(_scaled(picture, rng), rng)
    turned = picture.rotate(rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES), Image.Resampling.BICUBIC, expand=True)
    scene = _background(turned.size, rng)
    scene.paste(turned, mask=turned.getchannel("A"))
    blurred = scene.filter(ImageFilter.GaussianBlur(rng.uniform(0, MAX_BLUR_PX)))
    return _as_jpeg(_noisy(blurred, rng), rng)


def _scaled(picture: Image.Image, rng: random.Random) -> Image.Image:
    scale = SIDE_PX / max(picture.size)
    width, height = (max(1, round(side * scale * rng.uniform(0.9, 1.1))) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _cropped(picture: Image.Image, rng: random.Random) -> Image.Image:
    left, right, top, bottom = (rng.uniform(0, MAX_CROP) for _ in range(4))
    width, height = picture.size
    return picture.crop((int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height)))


def _background(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """One colour fading into another, with a few shapes lying about."""
    start, end = (np.array([rng.randint(30, 235) for _ in range(3)]) for _ in range(2))
    fade = np.linspace(0, 1, size[1])[:, None, None]
    scene = Image.fromarray(np.broadcast_to(start + fade * (end - start), (size[1], size[0], 3)).astype(np.uint8))
    draw = ImageDraw.Draw(scene)
    for _ in range(rng.randint(0, 4)):
        x, y, side = rng.randint(0, size[0]), rng.randint(0, size[1]), rng.randint(10, 60)
        draw.rectangle((x, y, x + side, y + side), fill=tuple(rng.randint(30, 235) for _ in range(3)))
    return scene


def _noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0, MAX_NOISE), pixels.shape)
    light = rng.uniform(0.8, 1.15)
    return Image.fromarray((pixels * light + noise).clip(0, 255).astype(np.uint8))


def _as_jpeg(image: Image.Image, rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=rng.randint(55, 92))
    return buffer.getvalue()
