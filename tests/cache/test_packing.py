import numpy as np
import pytest

from mmrag.cache.packing import pack, unpack

RANDOM = np.random.default_rng(0)
TEXT = RANDOM.normal(size=384).astype(np.float32)
IMAGE = (RANDOM.normal(size=384).astype(np.float32), RANDOM.normal(size=(16, 64)).astype(np.float16))


def test_what_is_packed_comes_back_in_half_precision_and_in_order():
    other = RANDOM.normal(size=8).astype(np.float32)
    embeddings = {b"a": TEXT, b"b": IMAGE, b"c": other, b"d": TEXT * 2}
    found = unpack(list(embeddings), [pack(key, embedding) for key, embedding in embeddings.items()])
    for before, after in zip(embeddings.values(), found, strict=True):
        vector, grid = after if isinstance(before, tuple) else (after, None)
        assert vector.dtype == np.float32 and vector.flags.writeable
        expected = before[0] if isinstance(before, tuple) else before
        np.testing.assert_array_equal(vector, expected.astype(np.float16).astype(np.float32))
        if grid is not None:
            assert grid.dtype == np.float16
            np.testing.assert_array_equal(grid, before[1])


def test_a_text_takes_little_more_than_its_numbers():
    assert len(pack(b"k", TEXT)) == 2 * 384 + 16


def test_packing_again_changes_nothing():
    [once] = unpack([b"k"], [pack(b"k", TEXT)])
    [twice] = unpack([b"k"], [pack(b"k", once)])
    np.testing.assert_array_equal(once, twice)


@pytest.mark.parametrize("embedding", [TEXT, IMAGE])
def test_any_change_of_a_byte_is_noticed(embedding):
    blob = pack(b"k", embedding)
    for position in range(0, len(blob), 7):
        changed = bytearray(blob)
        changed[position] ^= 0x10
        assert unpack([b"k"], [bytes(changed)]) == [None], position


@pytest.mark.parametrize(
    "garbage",
    [None, b"", b"x", b"mme1", b"mme1" + bytes(8), bytes(784), b"hello " * 200, pack(b"k", TEXT)[:-1],
     pack(b"k", TEXT)[:100], pack(b"k", TEXT) + b"\0", pack(b"another key", TEXT)],
)  # fmt: skip
def test_garbage_is_nothing_and_does_not_disturb_its_neighbours(garbage):
    found = unpack([b"a", b"k", b"c"], [pack(b"a", TEXT), garbage, pack(b"c", TEXT)])
    assert found[1] is None
    np.testing.assert_array_equal(found[0], found[2])
