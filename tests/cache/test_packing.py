import hashlib

import numpy as np
import pytest

from mmrag.cache.packing import pack, unpack

KEY, *_ = KEYS = [hashlib.sha256(bytes([i])).digest() for i in range(6)]
RANDOM = np.random.default_rng(0)
TEXT = RANDOM.normal(size=384).astype(np.float32)
IMAGE = (RANDOM.normal(size=384).astype(np.float32), RANDOM.normal(size=(16, 64)).astype(np.float16))


def test_what_is_packed_comes_back_in_half_precision_and_in_order():
    other = RANDOM.normal(size=8).astype(np.float32)
    odd = (TEXT[:3], IMAGE[1][:5, :3])
    embeddings = dict(zip(KEYS, [TEXT, IMAGE, other, TEXT * 2, TEXT[:7], odd], strict=True))
    found = unpack(list(embeddings), [pack(key, embedding) for key, embedding in embeddings.items()])
    for before, after in zip(embeddings.values(), found, strict=True):
        vector, grid = after if isinstance(before, tuple) else (after, None)
        assert vector.dtype == np.float32 and vector.flags.writeable
        expected = before[0] if isinstance(before, tuple) else before
        np.testing.assert_array_equal(vector, expected.astype(np.float16).astype(np.float32))
        if grid is not None:
            assert grid.dtype == np.float16
            np.testing.assert_array_equal(grid, before[1].astype(np.float16))


def test_a_text_takes_little_more_than_its_numbers():
    assert len(pack(KEY, TEXT)) == 2 * 384 + 24


def test_packing_again_changes_nothing():
    [once] = unpack([KEY], [pack(KEY, TEXT)])
    [twice] = unpack([KEY], [pack(KEY, once)])
    np.testing.assert_array_equal(once, twice)


def test_every_finite_number_of_half_precision_comes_back_exactly():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    for start in range(0, len(halves), 2**15):
        part = halves[start : start + 2**15].astype(np.float32)
        [found] = unpack([KEY], [pack(KEY, part)])
        np.testing.assert_array_equal(found.view(np.uint32), part.view(np.uint32))


@pytest.mark.parametrize("embedding", [TEXT, IMAGE])
def test_any_change_of_a_byte_is_noticed(embedding):
    blob = pack(KEY, embedding)
    for position in range(0, len(blob), 3):
        changed = bytearray(blob)
        changed[position] ^= 0x10
        assert unpack([KEY], [bytes(changed)]) == [None], position


@pytest.mark.parametrize(
    "garbage",
    [None, b"", b"x", b"mme1", b"mme1" + bytes(8), b"mme1" + bytes(20), b"mme1" + b"\xff" * 8, b"mme1" + b"\xff" * 780,
     pack(KEYS[1], TEXT)[:12], pack(KEYS[1], TEXT)[:24], bytes(784), b"hello " * 200, pack(KEYS[1], TEXT)[:-1],
     pack(KEYS[1], TEXT)[:100], pack(KEYS[1], TEXT) + b"\0", pack(bytes(32), TEXT)],
)  # fmt: skip
def test_garbage_is_nothing_and_does_not_disturb_its_neighbours(garbage):
    found = unpack(KEYS[:3], [pack(KEYS[0], TEXT), garbage, pack(KEYS[2], TEXT)])
    assert found[1] is None
    np.testing.assert_array_equal(found[0], found[2])


def test_any_bytes_at_all_are_taken_without_complaint():
    sound = pack(KEY, IMAGE)
    for length in (1, 4, 11, 12, 13, 20, 24, 100, len(sound)):
        for _ in range(50):
            noise = RANDOM.bytes(length)
            assert unpack([KEY], [noise]) == [None]
            assert unpack([KEY], [sound[: min(length, 4)] + noise]) == [None]
