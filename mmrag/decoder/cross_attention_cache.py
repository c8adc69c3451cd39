"""Keys and values of what running sequences read, in buckets of like lengths.

Every sequence's evidence has its own length. Padding all to the longest would have the processor read mostly padding;
one at a time would be mostly calls. So sequences whose sources are of like length share a bucket, as many as a few
megabytes hold: small models are computed in few large pieces, large ones without padding. A bucket has room for those
that are there and little more, as `cache_size` counts it.

Shapes: n places in a bucket, S source tokens, M vectors of image memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmrag.decoder.attention import MASKED, CrossMemory
from mmrag.decoder.cache_size import Place, rounded_up
from mmrag.decoder.heads import Source
from mmrag.decoder.layers import LayerCache
from mmrag.decoder.model import State


@dataclass(slots=True)
class View:
    """What a bucket holds now; `rows` [n]: the engine's row of each place."""

    rows: Tensor
    text: list[CrossMemory]
    image: list[CrossMemory | None]
    source: Source


class Bucket:
    """Places for sequences whose memories are no longer than `place` has room for."""

    def __init__(self, state: State, place: Place, num_places: int = 1):
        self.max_places, self.num_places = place.max_places, num_places
        self.rows: list[int] = []
        self.lengths: list[int] = []
        self._text = [_empty(memory, num_places, place.num_text) for memory in state.text]
        self._image = [_empty(memory, num_places, place.num_image) for memory in state.image]
        source, places = state.source, (num_places, place.num_text)
        self._source = Source(
            source.ids.new_zeros(places),
            source.copyable.new_zeros(places),
            source.states.new_zeros(*places, source.states.shape[-1]),
        )

    def put(self, row: int, state: State) -> None:
        place = len(self.rows)
        if place == self.num_places:
            self._resize(min(2 * self.num_places, self.max_places))
        for ours, theirs in self._memories(state):
            _fill(ours.keys[place], theirs.keys[0], 1)
            ours.values[place] = 0  # an image memory with nothing in it is read as 0, not as what was here before
            _fill(ours.values[place], theirs.values[0], 1)
            ours.bias[place] = MASKED
            _fill(ours.bias[place], theirs.bias[0], 2)
            if ours.weights is not None:
                ours.weights[place] = 0
                _fill(ours.weights[place], theirs.weights[0], 2)
        self._source.copyable[place] = False
        for ours, theirs in zip(self._source.tensors(), state.source.tensors(), strict=True):
            _fill(ours[place], theirs[0], 0)
        self.rows.append(row)
        self.lengths.append(state.text[0].keys.shape[2])

    def remove(self, row: int) -> None:
        """The last place moves into the gap."""
        place, last = self.rows.index(row), len(self.rows) - 1
        if place != last:
            for tensor in self._tensors():
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
        for memory in self._text + self._image:
            if memory is not None:
                memory.keys, memory.values = resized(memory.keys), resized(memory.values)
                memory.bias = resized(memory.bias)
                memory.weights = None if memory.weights is None else resized(memory.weights)
        self._source = Source(*map(resized, self._source.tensors()))
        self.num_places = num_places

    def view(self) -> View:
        return self._view(slice(0, len(self.rows)), rounded_up(max(self.lengths)), torch.tensor(self.rows))

    def whole_view(self) -> View:
        """All places, taken or not, each standing for the row of its own number."""
        return self._view(slice(None), None, torch.arange(self.num_places))

    def _view(self, here: slice, length: int | None, rows: Tensor) -> View:
        source = Source(*(tensor[here, :length] for tensor in self._source.tensors()))
        return View(
            rows.to(source.ids.device),
            [_part(memory, here, length) for memory in self._text],
            [_part(memory, here, None) for memory in self._image],
            source,
        )

    def state_of(self, row: int, question: Tensor | float) -> State:
        """A fresh state [1] that reads what `row` reads."""
        place = self.rows.index(row)
        here, length = slice(place, place + 1), rounded_up(self.lengths[place])
        text = [_part(memory, here, length) for memory in self._text]
        image = [_part(memory, here, None) for memory in self._image]
        source = Source(*(tensor[here, :length] for tensor in self._source.tensors()))
        return State(text, image, [LayerCache() for _ in text], source, question=question)

    def _memories(self, state: State) -> Iterator[tuple[CrossMemory, CrossMemory]]:
        for ours, theirs in zip(self._text + self._image, state.text + state.image, strict=True):
            if ours is not None:
                yield ours, theirs

    def _tensors(self) -> Iterator[Tensor]:
        for memory in self._text + self._image:
            if memory is not None:
                yield from (memory.keys, memory.values, memory.bias)
                if memory.weights is not None:
                    yield memory.weights
        yield from self._source.tensors()


@dataclass
class CrossAttentionCache:
    """All buckets of a worker.

    With a `static_place` there is one bucket only, which has all of its places from the beginning, and one view of the
    whole of it, which stays the same: for CUDA graphs. The place in it is the row: both close gaps in the same way.
    """

    static_place: Place | None = None
    views: list[View] = field(default_factory=list)
    _order: Tensor | None = None
    _buckets: dict[Place, list[Bucket]] = field(default_factory=dict)
    _of_row: dict[int, Bucket] = field(default_factory=dict)

    def put(self, row: int, state: State) -> None:
        """Take over what a state [1] reads. Until `refresh`, there are no views."""
        place = self.static_place or place_for(state)
        alike = self._buckets.setdefault(place, [])
        bucket = next((bucket for bucket in alike if len(bucket.rows) < bucket.max_places), None)
        if bucket is None:
            bucket = Bucket(state, place, 1 if self.static_place is None else place.max_places)
            alike.append(bucket)
        self._forget_views()
        bucket.put(row, state)
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
        for place, alike in list(self._buckets.items()):
            self._buckets[place] = [other for other in alike if other is not bucket]
            if not self._buckets[place]:
                del self._buckets[place]

    def _forget_views(self) -> None:
        # They would keep the tensors of a bucket that takes others.
        if self.static_place is None:
            self.views = []

    def rename(self, row: int, new_row: int) -> None:
        bucket = self._of_row[new_row] = self._of_row.pop(row)
        bucket.rows[bucket.rows.index(row)] = new_row

    def refresh(self) -> None:
        """Look at the buckets anew after sequences came or went."""
        if self.static_place is not None and self.views:
            return
        if self.static_place is not None:
            self.views = [bucket.whole_view() for [bucket] in self._buckets.values()]
        else:
            self.views = [bucket.view() for alike in self._buckets.values() for bucket in alike]
        self._order = torch.cat([view.rows for view in self.views]) if self.views else None

    def apart(self, of_rows: Tensor) -> tuple[Tensor, ...]:
        """[n, ...] of each view, from what is there for all rows [R, ...]."""
        return of_rows.index_select(0, self._order).split([len(view.rows) for view in self.views])

    def together(self, of_views: list[Tensor], num_rows: int) -> Tensor:
        """What `apart` takes apart; zeros for idle rows."""
        joined = torch.cat(of_views)
        return joined.new_zeros(num_rows, *joined.shape[1:]).index_copy_(0, self._order, joined)

    def state_of(self, row: int, question: Tensor | float) -> State:
        return self._of_row[row].state_of(row, question)


class CachedMemory:
    """A `CrossMemory` in pieces: one layer's text or image memory of all rows."""

    def __init__(self, cache: CrossAttentionCache, kind: str, layer: int):
        self._cache, self._kind, self._layer = cache, kind, layer
        self.is_kept = False
        self.kept: list[Tensor] = []

    def attend(self, queries: Tensor, scale: float) -> tuple[Tensor, None]:
        """Mixed values [R, H, 1, D]. While `is_kept`, the attention [n, H, 1, S] of each view stays in `kept`."""
        memories = [getattr(view, self._kind)[self._layer] for view in self._cache.views]
        parts = zip(memories, self._cache.apart(queries), strict=True)
        mixed, attention = zip(*(memory.attend(part, scale) for memory, part in parts), strict=True)
        self.kept = list(attention) if self.is_kept else []
        return self._cache.together(mixed, len(queries)), None


def place_for(state: State) -> Place:
    """Where a state [1] fits."""
    keys, image = state.text[0].keys, state.image[0]
    num_image = image.keys.shape[2] if image is not None else 0
    return Place.around(keys.shape[2], num_image, keys[0, :, 0].numel() * keys.element_size())


def _empty(memory: CrossMemory | None, num_places: int, capacity: int) -> CrossMemory | None:
    if memory is None:
        return None
    _, num_heads, _, d_kv = memory.keys.shape
    bias = memory.bias.new_full((num_places, 1, 1, capacity), MASKED)
    weights = None if memory.weights is None else bias.new_zeros(bias.shape)
    keys, values = (memory.keys.new_zeros(num_places, num_heads, capacity, d_kv) for _ in range(2))
    return CrossMemory(keys, values, bias, weights)


def _part(memory: CrossMemory | None, here: slice, length: int | None) -> CrossMemory | None:
    if memory is None:
        return None
    weights = None if memory.weights is None else memory.weights[here, ..., :length]
    return CrossMemory(
        memory.keys[here, :, :length], memory.values[here, :, :length], memory.bias[here, ..., :length], weights
    )


def _fill(target: Tensor, source: Tensor, axis: int) -> None:
    target.narrow(axis, 0, source.shape[axis]).copy_(source)
