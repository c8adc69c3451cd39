"""What a JPEG file is made of, found without decoding it."""

import re
from dataclasses import dataclass

MAX_SCANS = 100
"""Cameras and programs write about ten; each scan of a progressive JPEG costs a walk over all of its pixels."""

MAX_SEGMENTS = 4_000

_START_OF_SCAN, _END = 0xDA, 0xD9
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL_FRAMES = {0xC0, 0xC1}

# Within compressed data FF is followed by 00 or by a restart, D0 to D7: other markers are found by their bytes alone.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")


@dataclass(frozen=True, slots=True)
class Structure:
    """`num_scans`: of the first picture in the file, at most `MAX_SCANS` + 1; `is_well_formed`: at most
    `MAX_SEGMENTS` segments; `is_streamable`: one scan holds all colours of a sequential picture, so that it is
    decoded row by row, never held as a whole."""

    num_scans: int
    is_well_formed: bool
    is_streamable: bool


def structure(jpeg: bytes) -> Structure:
    """Walk over the segments (ITU-T T.81, annex B). What lies inside them or behind the picture does not count:
    thumbnails, the film of a motion photo."""
    position, num_scans, num_colours, is_sequential = 2, 0, 0, False
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(jpeg, position)
        marker = found[0][1] if found else _END
        if marker == _END or num_scans > MAX_SCANS:
            return Structure(num_scans, True, is_sequential and num_scans == 1)
        start = found.end()
        if marker in _FRAMES:
            num_colours, is_sequential = _byte(jpeg, start + 7), marker in _SEQUENTIAL_FRAMES
        elif marker == _START_OF_SCAN:
            num_scans += 1
            is_sequential &= _byte(jpeg, start + 2) == num_colours
        position = start + max(2, int.from_bytes(jpeg[start : start + 2], "big"))
    return Structure(num_scans, False, False)


def _byte(content: bytes, position: int) -> int:
    return content[position] if position < len(content) else 0
