"""Keys and values of what running sequences have written: a row each in static tables, the first rows always."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmrag.decoder.attention import MASKED
from mmrag.decoder.cache_size import ROW_STEP, rounded_up
from mmrag.decoder.model import FusionModel


@dataclass(slots=True)
class Step:
    """One token for each of the first P rows: `rows` [P], the `positions` [P] they write at, and T, the keys seen."""

    rows: Tensor
    positions: Tensor
    num_keys: int


class LayerSlots:
    """One layer's `LayerCache`, whose tables [max_rows, H, max_tokens, D] stay where they are."""

    def __init__(self, cache: "SelfAttentionCache", num_heads: int, d_kv: int, like: Tensor):
        self._cache = cache
        shape = cache.max_rows, num_heads, cache.max_tokens, d_kv
        self._keys, self._values = like.new_zeros(shape), like.new_zeros(shape)
        self._tail = like.new_zeros(cache.max_rows, cache.num_past, cache.d_model)

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values [P, H, 1, D] of the new tokens; all of them [P, H, T, D]."""
        step, num = self._cache.step, len(keys)
        self._keys[step.rows, :, step.positions] = keys[:, :, 0]
        self._values[step.rows, :, step.positions] = values[:, :, 0]
        return self._keys[:num, :, : step.num_keys], self._values[:num, :, : step.num_keys]

    def preceded(self, inputs: Tensor, num_past: int) -> Tensor:
        """See `LayerCache.preceded`."""
        tail = self._tail[: len(inputs)]
        padded = torch.cat([tail, inputs], 1)
        tail.copy_(padded[:, 1:])
        return padded

    def clear(self, row: int | slice) -> None:
        self._tail[row] = 0

    def move(self, row: int, new_row: int, length: int) -> None:
        for table in (self._keys, self._values):
            table[new_row, :, :length] = table[row, :, :length]
        self._tail[new_row] = self._tail[row]


class SelfAttentionCache:
    """The rows of all layers. Growing, leaving and moving mirror `scheduler.Scheduler`'s list of running sequences."""

    def __init__(self, model: FusionModel, max_rows: int, max_tokens: int, is_static: bool = False):
        config = model.config
        self.max_rows, self.max_tokens = rounded_up(max_rows, ROW_STEP), rounded_up(max_tokens)
        self.num_past, self.d_model = max(config.convolution_width - 1, 0), config.d_model
        self.lengths: list[int] = []
        self.history: list[list[int]] = []
        self.step: Step | None = None
        self.is_static = is_static
        self._num_remembered = max(config.copy_context, 1)
        like = model.embedding.weight
        self.question = like.new_zeros(self.max_rows, 1, config.d_model)
        self.layers = [LayerSlots(self, layer.attention.num_heads, config.d_kv, like) for layer in model.decoder]
        # Bias by distance [H, max_tokens]: what a token sees of the one `distance` before it.
        self._bias = model.decoder_bias(self.max_tokens, 1)[0, :, :, 0].contiguous()
        self._places = torch.arange(max(self.max_tokens, self.max_rows), device=like.device)

    def __len__(self) -> int:
        return len(self.lengths)

    def add(self, question: Tensor | float) -> int:
        """The new row."""
        row = len(self.lengths)
        self.lengths.append(0)
        self.history.append([])
        self.question[row] = question[0] if isinstance(question, Tensor) else question
        for cache in self.layers:
            cache.clear(row)
        return row

    def remove(self, row: int) -> int | None:
        """Returns which row, the last, moved into the gap; None where there is no gap."""
        last = len(self.lengths) - 1
        length, history = self.lengths.pop(), self.history.pop()
        if row == last:
            return None
        self.lengths[row], self.history[row] = length, history
        self.question[row] = self.question[last]
        for cache in self.layers:
            cache.move(last, row, length)
        return last

    def begin_step(self, last_ids: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Note the tokens last written; ids [P, 1], positions [P] and recent tokens [P, 1, copy_context] of the step.

        P is a multiple of `ROW_STEP`, or every row where shapes are static; the rows beyond those that run are idle.
        """
        for history, token in zip(self.history, last_ids, strict=True):
            history.append(token)
            del history[: -self._num_remembered]
        num = self.max_rows if self.is_static else rounded_up(len(self.lengths), ROW_STEP)
        # A row that only waits for its labels to be scored may come to the end of its table, and stays there.
        positions = [min(length, self.max_tokens - 1) for length in self.lengths]
        num_keys = self.max_tokens if self.is_static else rounded_up(max(positions) + 1)
        idle = [0] * (num - len(positions))
        ids, recent = torch.tensor(last_ids + idle)[:, None], self._recent(num)
        on_device = [tensor.to(self._places.device) for tensor in (ids, torch.tensor(positions + idle), recent)]
        self.step = Step(self._places[:num], on_device[1], num_keys)
        return tuple(on_device)

    def bias(self) -> Tensor:
        """Position bias [P, H, 1, T] of the step that has begun."""
        distances = self.step.positions[:, None] - self._places[: self.step.num_keys]
        bias = self._bias[:, distances.clamp(min=0)].masked_fill(distances < 0, MASKED)
        return bias.transpose(0, 1)[:, :, None]

    def forget(self) -> None:
        """Have every row begin anew: after a trial run, while none has written yet."""
        for cache in self.layers:
            cache.clear(slice(None))

    def end_step(self) -> None:
        self.lengths = [length + 1 for length in self.lengths]

    def _recent(self, num_rows: int) -> Tensor:
        """[P, 1, n]: the tokens of each row, last first; -2 before the beginning."""
        num = self._num_remembered
        recent = [[*history[: -num - 1 : -1], *[-2] * (num - len(history))] for history in self.history]
        return torch.tensor(recent + [[-2] * num] * (num_rows - len(recent)))[:, None]
