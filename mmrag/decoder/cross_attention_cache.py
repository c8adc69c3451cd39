"""What running sequences read: text, and image memory where the decoder attends to it apart from the text.

The two are in buckets of their own: a long text may come with few pictures, and a short one with many.
"""

from torch import Tensor

from mmrag.decoder.buckets import Buckets
from mmrag.decoder.cache_size import StaticPlaces
from mmrag.decoder.layers import LayerCache
from mmrag.decoder.model import State


class CrossAttentionCache:
    """All that a worker's sequences read; `static`: where shapes are static."""

    def __init__(self, static: StaticPlaces | None = None):
        self.text = Buckets(static and static.text)
        self.image = Buckets(static and static.image)

    def put(self, row: int, state: State) -> None:
        """Take over what a state [1] reads. Until `refresh`, there are no views."""
        self.text.put(row, state.text, state.source)
        if state.image[0] is not None:
            self.image.put(row, state.image)

    def remove(self, row: int) -> None:
        """Until `refresh`, there are no views."""
        for buckets in self._of(row):
            buckets.remove(row)

    def rename(self, row: int, new_row: int) -> None:
        for buckets in self._of(row):
            buckets.rename(row, new_row)

    def refresh(self) -> None:
        """Look at the buckets anew after sequences came or went."""
        self.text.refresh()
        self.image.refresh()

    def state_of(self, row: int, question: Tensor | float) -> State:
        """A fresh state [1] that reads what `row` reads."""
        text = self.text.view_of(row)
        image = self.image.view_of(row).memories if row in self.image else [None] * len(text.memories)
        return State(text.memories, image, [LayerCache() for _ in text.memories], text.source, question=question)

    def _of(self, row: int) -> list[Buckets]:
        return [buckets for buckets in (self.text, self.image) if row in buckets]


class CachedMemory:
    """A `CrossMemory` in pieces: one layer's memory of all rows."""

    def __init__(self, buckets: Buckets, layer: int):
        self.buckets, self._layer = buckets, layer
        self.is_kept = False
        self.kept: tuple[Tensor, ...] = ()

    def attend(self, queries: Tensor, scale: float) -> Tensor:
        """Mixed values [R, H, 1, D]. While `is_kept`, the attention [n, H, 1, S] of each view stays in `kept`."""
        memories = [view.memories[self._layer] for view in self.buckets.views]
        parts = zip(memories, self.buckets.apart(queries), strict=True)
        if not self.is_kept:
            mixed = [memory.attend(part, scale) for memory, part in parts]
        else:
            mixed, self.kept = zip(*(memory.attend_and_show(part, scale) for memory, part in parts), strict=True)
        return self.buckets.together(mixed, len(queries))
