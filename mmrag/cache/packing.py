"""An embedding as bytes: a small header, half precision, and a checksum that also covers the key.

    4 bytes   "mme1"
    2 + 2 + 2 dimension, regions, dimension of a region's features (0 and 0 for a text), little-endian
    2         zero
    ...       the embedding, then the grid of an image, float16
    4         CRC-32 of the key and all of the above

So what is cut off, overwritten, of another format, or an answer to another question is told from an embedding.
"""

import zlib
from collections.abc import Sequence
from struct import Struct

import numpy as np

Embedding = np.ndarray | tuple[np.ndarray, np.ndarray]
"""Of a text: float32 [dimension]. Of an image, with its grid: float16 [regions, grid_dimension]."""

_HEADER = Struct("<4sHHHxx")
_CHECKSUM = Struct("<I")
_MAGIC = b"mme1"
_RESIDUE = 0x2144DF1C
"""The CRC-32 of anything followed by its own CRC-32: so one pass over the whole checks it."""


def pack(key: bytes, embedding: Embedding) -> bytes:
    """`embedding` as it is stored under `key`."""
    vector, grid = embedding if isinstance(embedding, tuple) else (embedding, np.empty((0, 0), np.float16))
    head = _HEADER.pack(_MAGIC, len(vector), *grid.shape)
    body = head + vector.astype(np.float16).tobytes() + grid.astype(np.float16).tobytes()
    return body + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(key)))


def unpack(keys: Sequence[bytes], blobs: Sequence[bytes | None]) -> list[Embedding | None]:
    """The embeddings stored under `keys`; None where there is none, or what is there is none of ours."""
    sound = [i for i, (key, blob) in enumerate(zip(keys, blobs, strict=True)) if blob and _is_sound(key, blob)]
    found: list[Embedding | None] = [None] * len(keys)
    by_head: dict[bytes, list[int]] = {}
    for i in sound:
        by_head.setdefault(blobs[i][: _HEADER.size], []).append(i)
    for head, positions in by_head.items():  # one matrix for all of a shape: a third of the time of one by one
        for i, embedding in zip(positions, _unpack_alike(head, [blobs[i] for i in positions]), strict=True):
            found[i] = embedding
    return found


def _is_sound(key: bytes, blob: bytes) -> bool:
    return len(blob) > _HEADER.size and blob[:4] == _MAGIC and zlib.crc32(blob, zlib.crc32(key)) == _RESIDUE


def _unpack_alike(head: bytes, blobs: list[bytes]) -> list[Embedding]:
    _, dimension, num_regions, grid_dimension = _HEADER.unpack(head)
    layout = np.dtype(
        [
            ("head", f"V{_HEADER.size}"),
            ("vector", "<f2", dimension),
            ("grid", "<f2", (num_regions, grid_dimension)),
            ("checksum", "<u4"),
        ]
    )
    records = np.frombuffer(b"".join(blobs), layout)
    vectors = records["vector"].astype(np.float32)
    if not num_regions:
        return [vector.copy() for vector in vectors]  # a copy, or one that is kept would keep all of them
    return [(vector.copy(), grid.copy()) for vector, grid in zip(vectors, records["grid"], strict=True)]
