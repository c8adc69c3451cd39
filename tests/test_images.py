import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from mmrag.config import Limits
from mmrag.errors import InvalidImage, InvalidRequest, TooLarge, UnsupportedMedia
from mmrag.images import MAX_SIDE, decode_image, parse_data_uri


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_the_four_formats_decode_to_rgb(file_format):
    pixels = decode_image(encoded(Image.new("RGB", (30, 20), (200, 30, 60)), file_format))
    assert pixels.shape == (20, 30, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.mean(axis=(0, 1)) - (200, 30, 60)).max() < 6


def test_transparency_is_kept():
    assert decode_image(encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 0)))).shape == (8, 8, 4)
    palette = Image.new("P", (8, 8))
    assert decode_image(encoded(palette, "GIF", transparency=0)).shape == (8, 8, 4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "CMYK"])
def test_every_mode_of_a_valid_file_decodes(mode):
    file_format = "JPEG" if mode == "CMYK" else "PNG"
    assert decode_image(encoded(Image.new(mode, (700, 9)), file_format)).shape[1] == MAX_SIDE


@pytest.mark.parametrize(("mode", "max_blocks"), [("1", 11), ("P", 9), ("LA", 18), ("I;16", 12)])
def test_a_large_picture_is_scaled_before_it_is_converted(mode, max_blocks):
    content = encoded(Image.new(mode, (6_000, 4_000)))
    Image.core.reset_stats()
    decode_image(content)
    assert Image.core.get_stats()["allocated_blocks"] <= max_blocks  # of 16 MB at most


def test_sixteen_bits_become_eight():
    ramp = Image.fromarray(np.linspace(0, 65_535, 256 * 8).astype(np.uint16).reshape(256, 8))
    np.testing.assert_array_equal(decode_image(encoded(ramp))[:, 4, 0], np.arange(256))


def test_at_most_two_pictures_are_decoded_at_a_time(monkeypatch):
    running, most, counting = 0, 0, threading.Lock()
    draft = PngImageFile.draft

    def slow_draft(self, mode, size):
        nonlocal running, most
        with counting:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with counting:
            running -= 1
        return draft(self, mode, size)

    monkeypatch.setattr(PngImageFile, "draft", slow_draft)
    content = encoded(Image.new("RGB", (8, 8)))
    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(decode_image, [content] * 6))) == 6
    assert most == 2


def test_a_photograph_is_turned_upright():
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright
    assert decode_image(encoded(image, "JPEG", exif=exif)).shape == (40, 20, 3)


@pytest.mark.parametrize(("broken_tag", "shape"), [(0x0128, (40, 20, 3)), (0x0112, (20, 40, 3))])
def test_broken_exif_does_not_make_a_picture_broken(broken_tag, shape):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0128] = 2
    as_number, as_text = (struct.pack(">HHI", broken_tag, kind, 1) for kind in (3, 2))
    written = exif.tobytes()
    assert as_number in written
    content = encoded(Image.new("RGB", (40, 20)), "JPEG", exif=written.replace(as_number, as_text))
    assert decode_image(content).shape == shape


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pixels = decode_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert tuple(pixels[0, 0][:3]) == (255, 0, 0)


def bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_by_its_header():
    with pytest.raises(TooLarge, match="pixels"):
        decode_image(bomb(60_000, 60_000))
    with pytest.raises(TooLarge, match="24,000,000"):
        decode_image(bomb(6_000, 4_001))


def test_a_jpeg_with_very_many_scans_is_refused():
    image = encoded(Image.effect_noise((64, 64), 50), "JPEG", progressive=True)
    last_scan = image.rindex(b"\xff\xda")
    decode_image(image)
    with pytest.raises(TooLarge, match="scans"):
        decode_image(image[:last_scan] + 100 * image[last_scan:-2] + image[-2:])


def noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 50).convert("RGB")


def test_what_lies_behind_or_within_a_photograph_does_not_count():
    motion_photo = encoded(noise(64, 64), "JPEG") + b"\x00\x00\x00\x18ftypmp42" + b"\xff\xda" * 500
    assert decode_image(motion_photo).shape == (64, 64, 3)
    second = encoded(noise(64, 64), "JPEG", progressive=True)
    assert decode_image(encoded(noise(64, 64), "JPEG") + 30 * second).shape == (64, 64, 3)
    thumbnail = b"Exif\x00\x00" + b"\xff\xda" * 500
    assert decode_image(encoded(noise(64, 64), "JPEG", exif=thumbnail)).shape == (64, 64, 3)


def test_a_photograph_of_48_megapixels_is_decoded_small():
    photograph = encoded(Image.new("RGB", (8_000, 6_000), (200, 30, 60)), "JPEG")
    Image.core.reset_stats()
    pixels = decode_image(photograph)
    assert Image.core.get_stats()["allocated_blocks"] <= 6  # of 16 MB at most; whole it has 9
    assert pixels.shape == (384, 512, 3) and np.abs(pixels.mean(axis=(0, 1)) - (200, 30, 60)).max() < 6
    with pytest.raises(TooLarge, match="64,000,000"):
        decode_image(encoded(Image.new("L", (8_001, 8_000)), "JPEG"))


def test_a_jpeg_that_must_be_held_as_a_whole_has_the_limit_of_other_pictures():
    with pytest.raises(TooLarge, match="24,000,000"):
        decode_image(encoded(Image.new("L", (6_000, 4_001)), "JPEG", progressive=True))
    baseline = bytearray(encoded(Image.new("RGB", (6_000, 4_001)), "JPEG"))
    scan = baseline.index(b"\xff\xda")
    baseline[scan + 4] = 1  # its colours in scans of their own
    with pytest.raises(TooLarge, match="24,000,000"):
        decode_image(bytes(baseline))


def test_a_jpeg_of_very_many_segments_is_refused():
    image = encoded(noise(16, 16), "JPEG")
    with pytest.raises(TooLarge, match="scans"):
        decode_image(image[:2] + b"\xff\xfe\x00\x02" * 5_000 + image[2:])


def test_limits_are_the_callers():
    image = encoded(Image.new("RGB", (100, 100)))
    with pytest.raises(TooLarge, match="bytes"):
        decode_image(image, Limits(max_image_bytes=10))
    with pytest.raises(TooLarge, match="pixels"):
        decode_image(image, Limits(max_image_pixels=9_999))


@pytest.mark.parametrize("content", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"BM" + bytes(60)])
def test_what_is_no_image_we_read_is_named_so(content):
    with pytest.raises(UnsupportedMedia):
        decode_image(content)


def test_broken_files_are_invalid_images():
    whole = encoded(Image.effect_noise((64, 64), 50).convert("RGB"))
    for cut in (9, 20, 40, len(whole) // 2):
        with pytest.raises(InvalidImage):
            decode_image(whole[:cut])
    with pytest.raises(InvalidImage):
        decode_image(b"RIFF\x00\x00\x00\x00WEBPVP8 garbage")
    with pytest.raises(InvalidImage):
        decode_image(b"\xff\xd8\xff\xe0 no jpeg at all")


def test_data_uris():
    assert parse_data_uri("data:image/png;base64,AAEC", 10) == b"\x00\x01\x02"
    assert parse_data_uri("data:;base64,AAEC", 10) == b"\x00\x01\x02"
    assert parse_data_uri("data:image/png;charset=utf-8;base64,AAEC", 10) == b"\x00\x01\x02"
    with pytest.raises(InvalidRequest, match="data URI"):
        parse_data_uri("data:image/png" + ";a=" * 5 + ";base64,AAEC", 10)
    with pytest.raises(InvalidRequest, match="data URI"):
        parse_data_uri("http://example.org/a.png", 10)
    with pytest.raises(InvalidRequest, match="base64"):
        parse_data_uri("data:image/png;base64,AAE", 10)
    with pytest.raises(UnsupportedMedia):
        parse_data_uri("data:text/html;base64,AAEC", 10)
    with pytest.raises(TooLarge):
        parse_data_uri("data:image/png;base64," + "A" * 400, 10)
