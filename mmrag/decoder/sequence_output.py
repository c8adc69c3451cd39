"""What a sequence writes: its text as it grows, when it ends, and what of it can be sent; or scores of labels."""

import math

from tokenizers import Tokenizer

from mmrag.decoder.tokens import beginning
from mmrag.types import Decoded, LabelScore

UNFINISHED = "\ufffd"
"""What half a character decodes to."""

MAX_LABEL_TOKENS = 32
"""Of a long label only the first so many count."""


class SequenceOutput:
    """The tokens written so far, without the end token. `finish_reason` is "" until it ends."""

    def __init__(self, tokenizer: Tokenizer, end_id: int, max_new_tokens: int, stop: list[str]):
        self.tokens: list[int] = []
        self.finish_reason = ""
        self._tokenizer, self._end_id = tokenizer, end_id
        self._max_new_tokens, self._stop = max_new_tokens, stop
        self._num_sent_chars = 0

    def add(self, token: int) -> bool:
        """Whether the token belongs to the text; the end token does not."""
        if token == self._end_id:
            self.finish_reason = "stop"
            return False
        self.tokens.append(token)
        if self._stop and self._found(self._decoded()) is not None:
            self.finish_reason = "stop"
        elif len(self.tokens) >= self._max_new_tokens:
            self.finish_reason = "length"
        return True

    @property
    def text(self) -> str:
        """All of it, up to where a stop string begins."""
        text = self._decoded()
        found = self._found(text) if self._stop else None
        return text if found is None else text[:found].rstrip()

    @property
    def shown_tokens(self) -> list[int]:
        """Those that the text is made of: without what a stop string cut off."""
        text = self.text
        if not self._stop or text == self._decoded():
            return self.tokens
        cuts = (self.tokens[:num] for num in range(len(self.tokens)))
        return next((cut for cut in cuts if self._decoded(cut).startswith(text)), self.tokens)

    def piece(self) -> str:
        """What can be sent and was not yet: the pieces add up to the text."""
        is_finished = bool(self.finish_reason)  # first: another thread may be adding tokens
        text = self.text if is_finished else self._certain(self.text)
        piece = text[self._num_sent_chars :]
        self._num_sent_chars += len(piece)
        return piece

    def _certain(self, text: str) -> str:
        # Half a character changes when its other half comes; the beginning of a stop string may become one.
        text = text.rstrip(UNFINISHED)
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(text)), 0, -1):
                if text.endswith(stop[:length]):
                    text = text[:-length].rstrip()
                    break
        return text

    def _decoded(self, tokens: list[int] | None = None) -> str:
        tokens = self.tokens if tokens is None else tokens
        return self._tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def _found(self, text: str) -> int | None:
        places = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        return min(places) if places else None


def labelled(labels: list[str], scores: list[float], are_logarithms: bool = False) -> Decoded:
    """Labels by their probabilities among each other, best first."""
    if are_logarithms:
        exponentials = [math.exp(score - max(scores)) for score in scores]
        scores = [value / sum(exponentials) for value in exponentials]
    ranked = sorted(map(LabelScore, labels, scores), key=lambda label: -label.score)
    return Decoded(ranked[0].label, ranked)


def label_targets(tokenizer: Tokenizer, end_id: int, labels: list[str]) -> list[list[int]]:
    """The tokens that write each label, as far as they count."""
    written = [[*beginning(tokenizer, " " + label, MAX_LABEL_TOKENS).ids, end_id] for label in labels]
    return [target[:MAX_LABEL_TOKENS] for target in written]
