"""What a pointer needs to know of the sources of all running sequences, one behind the other, prepared once.

Sources have different lengths, and are looked at in several views; what is the same for every source token is done
for all N of them at once. `cache_size` counts what is kept.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mmrag.decoder.buckets import View
from mmrag.decoder.heads import Copying, Pointer, tokens_before


@dataclass(slots=True)
class SourceTokens:
    """Of each source token the row [N], the tokens before it [copy_context, N] and its place in the probabilities of
    all rows [N], int64; `can_copy` [max_rows, 1]: 1.0 for rows that have something to copy."""

    rows: Tensor
    before: Tensor
    places: Tensor
    can_copy: Tensor

    def tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


class CopySources:
    """Made anew by `refresh` whenever sequences come or go; `is_static`: in the same memory, for CUDA graphs."""

    def __init__(self, max_rows: int, copy_context: int, vocab_size: int, is_static: bool = False):
        self._max_rows, self._copy_context, self._vocab_size = max_rows, copy_context, vocab_size
        self._is_static = is_static
        self._shapes: list[tuple[int, int]] = []
        self.tokens: SourceTokens | None = None

    def refresh(self, views: list[View]) -> None:
        """Look at the views' sources anew."""
        self._shapes = [tuple(view.source.ids.shape) for view in views]
        if not self._is_static:
            self.tokens = None
        tokens = self._of(views) if views else None
        if self.tokens is None:
            self.tokens = tokens
            return
        for ours, theirs in zip(self.tokens.tensors(), tokens.tensors(), strict=True):
            ours.copy_(theirs)

    def bonuses(self, pointer: Pointer, recent: Tensor) -> list[Tensor]:
        """See `Pointer.bonus`: [n, 1, S] for each view; `recent` [R, 1, copy_context]: the last tokens, last first."""
        last = [recent[:, 0, i][self.tokens.rows] for i in range(self._copy_context)]
        parts = pointer.bonus(last, list(self.tokens.before)).split([num * length for num, length in self._shapes])
        return [part.view(num, 1, length) for part, (num, length) in zip(parts, self._shapes, strict=True)]

    def add_copied(self, probabilities: Tensor, copyings: list[Copying]) -> None:
        """Add to `probabilities` [R, V], in place, what is copied from each view's sources."""
        copied = torch.cat([(copying.attention[:, 0] * copying.share).view(-1) for copying in copyings])
        probabilities.view(-1).scatter_add_(0, self.tokens.places, copied)

    def _of(self, views: list[View]) -> SourceTokens:
        rows = [view.rows[:, None].expand(view.source.ids.shape) for view in views]
        before = [torch.stack(tokens_before(view.source.ids, self._copy_context)).flatten(1) for view in views]
        places = [view.source.ids + row * self._vocab_size for view, row in zip(views, rows, strict=True)]
        can_copy = torch.zeros(self._max_rows, 1, device=views[0].rows.device)
        for view in views:
            can_copy[view.rows] = view.source.copyable.any(1, keepdim=True).float()
        rows, places = (torch.cat([part.reshape(-1) for part in parts]) for parts in (rows, places))
        return SourceTokens(rows, torch.cat(before, 1), places, can_copy)
