"""Safe decoding of images that strangers send."""

import base64
import binascii
import hashlib
import io
import re
import threading

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose

from mmrag import jpeg
from mmrag.config import Limits
from mmrag.errors import InvalidImage, InvalidRequest, TooLarge, UnsupportedMedia

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
MAX_SIDE = 512
"""Pictures are scaled down to this side, in pixels: more than any encoder here looks at."""

MAX_DECODED = 32
"""Decoded pictures of one call that may be in memory at a time: each takes up to a megabyte."""

_COARSE_SIDE = 4 * MAX_SIDE
"""Modes that cannot be averaged without a copy of the whole picture are thinned out to this side first."""

_DECODING = threading.BoundedSemaphore(2)
"""Few files are decoded at a time, in whatever thread: a small one may need a hundred megabytes while it is read."""

_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright."""

_DATA_URI = re.compile(r"data:(?P<media>[\w.+-]+/[\w.+-]+)?(?:;[\w-]{1,64}=[^;,]{0,64}){0,4};base64,", re.IGNORECASE)


def image_id(content: bytes) -> str:
    """The id of a picture: SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sniff_media_type(content: bytes) -> str:
    """The media type by the bytes themselves, whatever the sender called them.

    Raises:
        UnsupportedMedia: it is none of PNG, JPEG, WebP and GIF.
    """
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    raise UnsupportedMedia("this is not a PNG, JPEG, WebP or GIF image", param="image")


def decode_image(content: bytes, limits: Limits = Limits()) -> np.ndarray:
    """Decode an encoded image; animations give their first frame.

    Size is checked from the header before a pixel is decoded. EXIF orientation is applied where it can be read. At most
    two images are decoded at a time in a process, others wait.

    Returns:
        uint8 [height, width, 3], or [height, width, 4] where the image has transparency; the longer side is at
        most `MAX_SIDE` pixels.

    Raises:
        TooLarge: more bytes or pixels than `limits` allow, or more parts than `mmrag.jpeg` allows.
        UnsupportedMedia: not PNG, JPEG, WebP or GIF.
        InvalidImage: broken or truncated.
    """
    if len(content) > limits.max_image_bytes:
        raise TooLarge(
            f"the image has {len(content):,} bytes; at most {limits.max_image_bytes:,} are read", param="image"
        )
    try:
        max_pixels = limits.max_image_pixels
        if sniff_media_type(content) == "image/jpeg" and _is_streamable(content):
            max_pixels = limits.max_jpeg_pixels  # it is decoded row by row, at a fraction of the size
        with Image.open(io.BytesIO(content), formats=list(MEDIA_TYPES)) as image:
            _check_size(image.size, max_pixels)
            with _DECODING:
                image.draft("RGB", (MAX_SIDE, MAX_SIDE))
                _check_size(image.size, limits.max_image_pixels)
                return _to_array(image)
    except Image.DecompressionBombError as error:
        raise TooLarge(f"the image has more pixels than {limits.max_image_pixels:,}", param="image") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise InvalidImage("the image is broken or cut short: it cannot be decoded", param="image") from error


def _is_streamable(content: bytes) -> bool:
    found = jpeg.structure(content)
    if found.num_scans > jpeg.MAX_SCANS or not found.is_well_formed:
        parts = f"{jpeg.MAX_SCANS} scans, or {jpeg.MAX_SEGMENTS:,} segments"
        raise TooLarge(f"the image has more than {parts}; save it as a baseline JPEG", param="image")
    return found.is_streamable


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise TooLarge(f"the image has {width} x {height} pixels; at most {max_pixels:,} are decoded", param="image")


def _to_array(image: Image.Image) -> np.ndarray:
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    # Scale before converting: a palette image of 24 megapixels must not become 96 MB of RGBA first.
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("RGB", "L"):
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    else:
        image.thumbnail((_COARSE_SIDE, _COARSE_SIDE), Image.Resampling.NEAREST)
    if image.mode == "I;16":
        image = image.point(lambda value: value / 256).convert("L")  # converting alone would clip at 255
    turn = _turn(image)
    upright = image if turn is None else image.transpose(turn)
    converted = upright.convert("RGBA" if has_alpha else "RGB")
    converted.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    return np.asarray(converted, dtype=np.uint8)


def _turn(image: Image.Image) -> Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # broken EXIF raises whatever its parser meets, and says nothing of the pixels
        return None


def parse_data_uri(uri: str, max_bytes: int, param: str = "image") -> bytes:
    """The bytes of a `data:image/...;base64,...` URI.

    Raises:
        InvalidRequest: it is no data URI, or the base64 is broken.
        UnsupportedMedia: its media type is no image.
        TooLarge: more than `max_bytes` bytes.
    """
    match = _DATA_URI.match(uri)
    if match is None:
        raise InvalidRequest(f'{param} must be a data URI: "data:image/png;base64,…"', param=param)
    if match["media"] and not match["media"].lower().startswith("image/"):
        raise UnsupportedMedia(f"{param} is {match['media']}, which is no image type", param=param)
    payload = uri[match.end() :]
    if len(payload) * 3 // 4 > max_bytes + 3:
        raise TooLarge(f"{param} has more than {max_bytes:,} bytes; make it smaller", param=param)
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{param} is not valid base64: {error}", param=param) from error
