"""Cutting a document's text into passages: by the encoder's tokens, at sentence ends, with overlap."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mmrag.config import PassageConfig
from mmrag.sentences import sentences

_MAX_WORD_CHARS = 16
"""A token may stand for a whole line that the vocabulary does not know: it counts once for each so many characters."""


class Tokenizer(Protocol):
    """What is needed of a `tokenizers.Tokenizer`."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Any:
        """Something with `offsets`: of each token the characters, start and end, that it stands for."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of a text."""

    start: int
    end: int


class Splitter:
    """Cuts texts into passages; takes linear time.

    A passage holds whole sentences and at most `max_tokens` tokens, and begins with those last sentences of the
    one before that fit in `overlap_tokens`. A sentence that is too long is cut between words; a word, or a text
    without spaces, anywhere.

    Args:
        tokenizer: the text encoder's; a copy is taken, without its padding and truncation.
    """

    def __init__(self, tokenizer: Tokenizer, config: PassageConfig = PassageConfig()):
        self.config = config
        self._tokenizer = copy.deepcopy(tokenizer)
        for setting in ("no_padding", "no_truncation"):
            if hasattr(self._tokenizer, setting):
                getattr(self._tokenizer, setting)()

    def split(self, text: str) -> list[Span]:
        """The passages of a text in order; none where it has no words."""
        tokens = list(self._tokens(text))
        if not tokens:
            return []
        starts = [token.start for token in tokens]
        pieces = [
            piece
            for first, last in sentences(text, starts)
            for piece in _cut_long(text, tokens, first, last, self.config.max_tokens)
        ]
        return [Span(starts[first], tokens[last - 1].end) for first, last in self._pack(pieces)]

    def _tokens(self, text: str) -> Iterator[Span]:
        for start, end in self._tokenizer.encode(text, add_special_tokens=False).offsets:
            for piece_start in range(start, end, _MAX_WORD_CHARS):
                yield Span(piece_start, min(end, piece_start + _MAX_WORD_CHARS))

    def _pack(self, pieces: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        # Pieces are half-open ranges of tokens that follow each other.
        first = 0
        while first < len(pieces):
            end = first + 1
            while end < len(pieces) and pieces[end][1] - pieces[first][0] <= self.config.max_tokens:
                end += 1
            yield pieces[first][0], pieces[end - 1][1]
            if end == len(pieces):
                return
            first = self._step_back(pieces, first, end)

    def _step_back(self, pieces: list[tuple[int, int]], first: int, end: int) -> int:
        # The next passage must hold something new as well as the overlap.
        start, size = end, pieces[end][1]
        while (
            start - 1 > first
            and pieces[end][0] - pieces[start - 1][0] <= self.config.overlap_tokens
            and size - pieces[start - 1][0] <= self.config.max_tokens
        ):
            start -= 1
        return start


def _cut_long(text: str, tokens: list[Span], first: int, last: int, max_tokens: int) -> Iterator[tuple[int, int]]:
    while last - first > max_tokens:
        cut = first + max_tokens
        while cut > first and not text[tokens[cut].start - 1].isspace():
            cut -= 1
        if cut == first:
            cut = first + max_tokens
        yield first, cut
        first = cut
    if last > first:
        yield first, last
