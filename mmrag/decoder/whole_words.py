"""Copied words are copied whole: an answer says Nigeria, not Niger, and never begins in the middle of Austria.

The tokenizer cuts a rare word into pieces. A pointer that leaves the word after one of them, or enters it behind
them, writes a word that nobody wrote. So after a piece that always goes on, only what it goes on with may follow,
and a piece that is only met inside words follows nothing but what it follows there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Encoding
from torch import Tensor


@dataclass(slots=True)
class WholeWords:
    """How the words of one request's passages are made of tokens. Without passages everything may follow.

    Attributes:
        following: to each token that does not end its word, those that go on with it.
        final: tokens that end a word, at least once; and the one before an answer's first.
        inner: tokens that never begin a word.
    """

    following: dict[int, set[int]] = field(default_factory=dict)
    final: set[int] = field(default_factory=set)
    inner: set[int] = field(default_factory=set)

    def allow(self, token: int, last: int) -> bool:
        """Whether `token` may be written after `last`. Words that no passage has are not judged."""
        follows = token in self.following.get(last, ())
        if last in self.final:
            return follows or token not in self.inner
        return follows or last not in self.following

    def fitting(self, scores: Tensor, last: int) -> Tensor:
        """`scores` [V], with -inf for what may not be written after `last`."""
        following = self.following.get(last, set())
        if last in self.final:
            refused = list(self.inner - following)
            return scores.index_fill(0, torch.tensor(refused, dtype=torch.int64, device=scores.device), -torch.inf)
        if not following:
            return scores
        kept = torch.tensor(sorted(following), device=scores.device)
        return torch.full_like(scores, -torch.inf).index_copy(0, kept, scores[kept])


def whole_words(encodings: Iterable[Encoding], start_id: int) -> WholeWords:
    """The words of titles and texts; an answer begins after `start_id`."""
    words, initial = WholeWords(final={start_id}), set()
    for encoding in encodings:
        ids, goes_on = np.array(encoding.ids), np.diff(encoding.word_ids) == 0
        initial.update(ids[np.append(True, ~goes_on)[: len(ids)]].tolist())
        words.final.update(ids[np.append(~goes_on, True)[: len(ids)]].tolist())
        for token, following in zip(ids[:-1][goes_on].tolist(), ids[1:][goes_on].tolist(), strict=True):
            words.following.setdefault(token, set()).add(following)
    words.inner = set().union(*words.following.values()) - initial
    return words
