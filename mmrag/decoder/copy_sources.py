"""What a pointer needs to know of the sources of all running sequences, one behind the other, prepared once.

Sources have different lengths, and are looked at in several views; what is the same for every source token is done
for all N of them at once.
"""

import torch
from torch import Tensor

from mmrag.decoder.buckets import View
from mmrag.decoder.heads import Copying, Pointer, tokens_before


class CopySources:
    """Made anew by `refresh` whenever sequences come or go; `is_static`: in the same memory, for CUDA graphs."""

    def __init__(self, max_rows: int, copy_context: int, vocab_size: int, is_static: bool = False):
        self._max_rows, self._context, self._vocab_size = max_rows, copy_context, vocab_size
        self._is_static = is_static
        self._sizes: list[tuple[int, int]] = []
        self._tensors: list[Tensor] = []

    def refresh(self, views: list[View]) -> None:
        """Look at the views' sources anew."""
        self._sizes = [tuple(view.source.ids.shape) for view in views]
        tensors = self._of(views) if views else []
        if not (self._is_static and self._tensors):
            self._tensors = tensors
            return
        for ours, theirs in zip(self._tensors, tensors, strict=True):
            ours.copy_(theirs)

    def bonuses(self, pointer: Pointer, recent: Tensor) -> list[Tensor]:
        """See `Pointer.bonus`: [n, 1, S] for each view; `recent` [R, 1, n]: the tokens just written, last first."""
        rows, before, *_ = self._tensors
        bonus = pointer.bonus([recent[:, 0, i][rows] for i in range(self._context)], list(before))
        parts = bonus.split([num * length for num, length in self._sizes])
        return [part.view(num, 1, length) for part, (num, length) in zip(parts, self._sizes, strict=True)]

    def can_copy(self, num_rows: int) -> Tensor:
        """1.0 for the rows that have something to copy, 0.0 for the others [R, 1]."""
        return self._tensors[3][:num_rows]

    def add_copied(self, probabilities: Tensor, copyings: list[Copying]) -> None:
        """Add to `probabilities` [R, V], in place, what is copied from each view's sources."""
        copied = torch.cat([(copying.attention[:, 0] * copying.share).view(-1) for copying in copyings])
        probabilities.view(-1).scatter_add_(0, self._tensors[2], copied)

    def _of(self, views: list[View]) -> list[Tensor]:
        """Of each source token: its row [N], the tokens before it [n, N], its place among all rows' probabilities [N];
        and `can_copy` [max_rows, 1]."""
        rows = [view.rows[:, None].expand(view.source.ids.shape) for view in views]
        before = [torch.stack(tokens_before(view.source.ids, self._context)).flatten(1) for view in views]
        places = [view.source.ids + row * self._vocab_size for view, row in zip(views, rows, strict=True)]
        can_copy = torch.zeros(self._max_rows, 1, device=views[0].rows.device)
        for view in views:
            can_copy[view.rows] = view.source.copyable.any(1, keepdim=True).float()
        flat = (torch.cat([part.reshape(-1) for part in parts]) for parts in (rows, places))
        of_rows, of_places = flat
        return [of_rows, torch.cat(before, 1), of_places, can_copy]
