"""Keys and values of what running sequences read, in buckets of like lengths.

Every sequence's evidence has its own length. Padding all to the longest would have the processor read mostly padding;
one at a time would be mostly calls. So sequences whose memories are of like length share a bucket, as many as a few
megabytes hold: small models are computed in few large pieces, large ones without padding. A bucket has room for those
that are there and little more, as `cache_size` counts it.

Shapes: n places in a bucket, S tokens of text (or vectors of image memory).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmrag.decoder.attention import MASKED, CrossMemory
from mmrag.decoder.cache_size import Place, rounded_up
from mmrag.decoder.heads import Source


@dataclass(slots=True)
class View:
    """What a bucket holds now; `rows` [n]: the engine's row of each place. No source in a bucket of image memories."""

    rows: Tensor
    memories: list[CrossMemory]
    source: Source | None


class Bucket:
    """Places for sequences whose memories, one for each layer, are no longer than `place` has room for."""

    def __init__(self, memories: list[CrossMemory], source: Source | None, place: Place, num_places: int = 1):
        self.max_places, self.num_places = place.max_places, num_places
        self.rows: list[int] = []
        self.lengths: list[int] = []
        self._memories = [_empty(memory, num_places, place.length) for memory in memories]
        self._source = None
        if source is not None:
            shape = num_places, place.length
            self._source = Source(
                source.ids.new_zeros(shape),
                source.copyable.new_zeros(shape),
                source.states.new_zeros(*shape, source.states.shape[-1]),
            )

    def put(self, row: int, memories: list[CrossMemory], source: Source | None) -> None:
        place = len(self.rows)
        if place == self.num_places:
            self._resize(min(2 * self.num_places, self.max_places))
        for ours, theirs in zip(self._memories, memories, strict=True):
            _fill(ours.keys[place], theirs.keys[0], 1)
            ours.values[place] = 0  # an image memory with nothing in it is read as 0, not as what was here before
            _fill(ours.values[place], theirs.values[0], 1)
            ours.bias[place] = MASKED
            _fill(ours.bias[place], theirs.bias[0], 2)
            if ours.weights is not None:
                ours.weights[place] = 0
                _fill(ours.weights[place], theirs.weights[0], 2)
        if self._source is not None:
            self._source.copyable[place] = False
            for ours, theirs in zip(self._source.tensors(), source.tensors(), strict=True):
                _fill(ours[place], theirs[0], 0)
        self.rows.append(row)
        self.lengths.append(memories[0].keys.shape[2])

    def remove(self, row: int) -> None:
        """The last place moves into the gap."""
        place, last = self.rows.index(row), len(self.rows) - 1
        if place != last:
            for tensor in self.tensors():
                tensor[place] = tensor[last]
            self.rows[place], self.lengths[place] = self.rows[last], self.lengths[last]
        self.rows.pop()
        self.lengths.pop()

    def shrink(self) -> None:
        """Give back half of the places where not half of them are taken."""
        if 2 * len(self.rows) < self.num_places:
            self._resize(self.num_places // 2)

    def _resize(self, num_places: int) -> None:
        def resized(tensor: Tensor) -> Tensor:
            other = tensor.new_zeros(num_places, *tensor.shape[1:])
            other[: len(self.rows)] = tensor[: len(self.rows)]
            return other

        # One after the other, so that little is there twice.
        for memory in self._memories:
            memory.keys, memory.values = resized(memory.keys), resized(memory.values)
            memory.bias = resized(memory.bias)
            memory.weights = None if memory.weights is None else resized(memory.weights)
        if self._source is not None:
            self._source = Source(*map(resized, self._source.tensors()))
        self.num_places = num_places

    def view(self) -> View:
        """Those that are there, as far as the longest of them goes."""
        return self._view(slice(0, len(self.rows)), rounded_up(max(self.lengths)), self.rows)

    def whole_view(self) -> View:
        """All places, taken or not, each standing for the row of its own number."""
        return self._view(slice(None), None, list(range(self.num_places)))

    def view_of(self, row: int) -> View:
        """One row's memories [1] alone."""
        place = self.rows.index(row)
        return self._view(slice(place, place + 1), rounded_up(self.lengths[place]), [row])

    def _view(self, here: slice, length: int | None, rows: list[int]) -> View:
        memories = [_part(memory, here, length) for memory in self._memories]
        source = None
        if self._source is not None:
            source = Source(*(tensor[here, :length] for tensor in self._source.tensors()))
        return View(torch.tensor(rows, device=memories[0].keys.device), memories, source)

    def tensors(self) -> Iterator[Tensor]:
        """All that is kept, each [num_places, ...]."""
        for memory in self._memories:
            yield from (memory.keys, memory.values, memory.bias)
            if memory.weights is not None:
                yield memory.weights
        if self._source is not None:
            yield from self._source.tensors()


class Buckets:
    """All buckets of one kind of memory, text or image.

    With a `static_place` there is one bucket only, which has all of its places from the beginning, and one view of the
    whole of it, which stays the same: for CUDA graphs. The place in it is the row: both close gaps in the same way.
    """

    def __init__(self, static_place: Place | None = None):
        self.static_place = static_place
        self.views: list[View] = []
        self._order: Tensor | None = None
        self._alike: dict[Place, list[Bucket]] = {}
        self._of_row: dict[int, Bucket] = {}

    def __contains__(self, row: int) -> bool:
        return row in self._of_row

    def __iter__(self) -> Iterator[Bucket]:
        return (bucket for alike in self._alike.values() for bucket in alike)

    def put(self, row: int, memories: list[CrossMemory], source: Source | None = None) -> None:
        """Take over what a row reads [1]. Until `refresh`, there are no views."""
        place = self.static_place or place_for(memories[0])
        alike = self._alike.setdefault(place, [])
        bucket = next((bucket for bucket in alike if len(bucket.rows) < bucket.max_places), None)
        if bucket is None:
            bucket = Bucket(memories, source, place, 1 if self.static_place is None else place.max_places)
            alike.append(bucket)
        self._forget_views()
        bucket.put(row, memories, source)
        self._of_row[row] = bucket

    def remove(self, row: int) -> None:
        """Until `refresh`, there are no views."""
        bucket = self._of_row.pop(row)
        bucket.remove(row)
        if self.static_place is not None:
            return
        self._forget_views()
        if bucket.rows:
            bucket.shrink()
            return
        for place, alike in list(self._alike.items()):
            self._alike[place] = [other for other in alike if other is not bucket]
            if not self._alike[place]:
                del self._alike[place]

    def rename(self, row: int, new_row: int) -> None:
        bucket = self._of_row[new_row] = self._of_row.pop(row)
        bucket.rows[bucket.rows.index(row)] = new_row

    def refresh(self) -> None:
        """Look at the buckets anew after sequences came or went."""
        if self.static_place is not None and self.views:
            return
        self.views = [bucket.view() if self.static_place is None else bucket.whole_view() for bucket in self]
        self._order = torch.cat([view.rows for view in self.views]) if self.views else None

    def view_of(self, row: int) -> View:
        """What one row reads, alone."""
        return self._of_row[row].view_of(row)

    def place_in_views(self, row: int) -> tuple[int, int]:
        """Which view the row is in, and its place there."""
        return next((v, rows.index(row)) for v, view in enumerate(self.views) if row in (rows := view.rows.tolist()))

    def apart(self, of_rows: Tensor) -> tuple[Tensor, ...]:
        """[n, ...] of each view, from what is there for all rows [R, ...]."""
        return of_rows.index_select(0, self._order).split([len(view.rows) for view in self.views])

    def together(self, of_views: list[Tensor], num_rows: int) -> Tensor:
        """What `apart` takes apart; zeros for idle rows."""
        joined = torch.cat(of_views)
        return joined.new_zeros(num_rows, *joined.shape[1:]).index_copy_(0, self._order, joined)

    def _forget_views(self) -> None:
        # They would keep the tensors of a bucket that takes others.
        if self.static_place is None:
            self.views = []


def place_for(memory: CrossMemory) -> Place:
    """Where a memory [1] fits."""
    keys = memory.keys
    return Place.around(keys.shape[2], keys[0, :, 0].numel() * keys.element_size())


def _empty(memory: CrossMemory, num_places: int, capacity: int) -> CrossMemory:
    _, num_heads, _, d_kv = memory.keys.shape
    bias = memory.bias.new_full((num_places, 1, 1, capacity), MASKED)
    weights = None if memory.weights is None else bias.new_zeros(bias.shape)
    keys, values = (memory.keys.new_zeros(num_places, num_heads, capacity, d_kv) for _ in range(2))
    return CrossMemory(keys, values, bias, weights)


def _part(memory: CrossMemory, here: slice, length: int | None) -> CrossMemory:
    weights = None if memory.weights is None else memory.weights[here, ..., :length]
    return CrossMemory(
        memory.keys[here, :, :length], memory.values[here, :, :length], memory.bias[here, ..., :length], weights
    )


def _fill(target: Tensor, source: Tensor, axis: int) -> None:
    target.narrow(axis, 0, source.shape[axis]).copy_(source)
