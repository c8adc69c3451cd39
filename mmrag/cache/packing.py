"""An embedding as bytes: a small header, half precision, and a checksum. All numbers little-endian.

    4 bytes    "mme1"
    2 + 2 + 2  dimension; regions, and dimension of a region's features (0 and 0 for a text)
    2          zero
    8          the beginning of the key
    ...        the embedding, then the grid of an image, float16, filled up to a multiple of 4
    4          checksum of all of the above

So what is cut off, overwritten, of another format, or the answer to another question is told from an embedding. A
batch is checked and read as one matrix: one by one takes longer than Redis itself.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct

import numpy as np

Embedding = np.ndarray | tuple[np.ndarray, np.ndarray]
"""Of a text: float32 [dimension]. Of an image, with its grid: float16 [regions, grid_dimension]."""

_HEADER = Struct("<4sHHH2x8s")
_SHAPE_BYTES, _KEY_PART_BYTES = 12, 8
_MAGIC = b"mme1"
_MAX_NUMBERS = 2**22
"""Of one embedding with its grid: 8 MiB. A header that speaks of more is none of ours."""


def pack(key: bytes, embedding: Embedding) -> bytes:
    """`embedding` as it is stored under `key`."""
    vector, grid = embedding if isinstance(embedding, tuple) else (embedding, np.empty((0, 0), np.float16))
    body = np.concatenate([vector, grid.ravel()], dtype="<f2", casting="same_kind").tobytes()
    stored = _HEADER.pack(_MAGIC, len(vector), *grid.shape, key[:_KEY_PART_BYTES]) + body + bytes(-len(body) % 4)
    return stored + _checksums(np.frombuffer(stored, "<u4")[None]).tobytes()


def unpack(keys: Sequence[bytes], blobs: Sequence[bytes | None]) -> list[Embedding | None]:
    """The embeddings stored under `keys`; None where there is none, or what is there is none of ours."""
    found: list[Embedding | None] = [None] * len(keys)
    alike: dict[bytes, list[int]] = {}
    for i, blob in enumerate(blobs):
        if blob:
            alike.setdefault(blob[:_SHAPE_BYTES], []).append(i)
    for shape, positions in alike.items():
        if layout := _layout(shape):
            _unpack_alike(layout, keys, blobs, positions, found)
    return found


def _unpack_alike(layout: np.dtype, keys: Sequence, blobs: Sequence, positions: list[int], found: list) -> None:
    positions = [i for i in positions if len(blobs[i]) == layout.itemsize]
    if not positions:
        return
    joined = b"".join([blobs[i] for i in positions])
    records, words = np.frombuffer(joined, layout), np.frombuffer(joined, "<u4").reshape(-1, layout.itemsize // 4)
    wanted = np.frombuffer(b"".join([keys[i][:_KEY_PART_BYTES] for i in positions]), "<u8")
    is_sound = (records["key"] == wanted) & (words[:, -1] == _checksums(words[:, :-1]))
    vectors, grids = _single_precision(records["vector"]), records["grid"].copy()
    embeddings: Iterable[Embedding] = zip(vectors, grids, strict=True) if grids.size else vectors
    for i, embedding, is_one in zip(positions, embeddings, is_sound.tolist(), strict=True):
        if is_one:
            found[i] = embedding


@lru_cache(maxsize=64)
def _layout(shape: bytes) -> np.dtype | None:
    if len(shape) != _SHAPE_BYTES or not shape.startswith(_MAGIC):
        return None
    _, dimension, num_regions, grid_dimension, _ = _HEADER.unpack(shape + bytes(8))
    num_numbers = dimension + num_regions * grid_dimension
    if not 0 < num_numbers <= _MAX_NUMBERS:
        return None
    fields = [("shape", f"V{_SHAPE_BYTES}"), ("key", "<u8"), ("vector", "<f2", dimension)]
    fields += [("grid", "<f2", (num_regions, grid_dimension)), ("padding", "<f2", num_numbers % 2), ("checksum", "<u4")]
    return np.dtype(fields)


def _checksums(words: np.ndarray) -> np.ndarray:
    """Of uint32 [n, words]: uint32 [n]. Each word counts an odd number of times, so no change of one goes unseen."""
    return np.einsum("ij,j->i", words, _odd_numbers(words.shape[1]))  # modulo 2**32


@lru_cache(maxsize=64)
def _odd_numbers(count: int) -> np.ndarray:
    return np.arange(1, 2 * count, 2, dtype=np.uint32) * np.uint32(2654435761)  # Knuth's multiplier, odd as well


def _single_precision(half: np.ndarray) -> np.ndarray:
    """`half.astype(np.float32)` of finite numbers, seven times as fast.

    Sign and digits are put where float32 has them; what the exponents' offsets differ by (127 and 15) is a factor.
    """
    bits = np.left_shift(half.view(np.int16), 13, dtype=np.int32)
    bits &= np.int32(~0x70001FFF)
    single = bits.view(np.float32)
    single *= np.float32(2.0**112)
    return single
