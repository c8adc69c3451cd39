"""Reading: newcomers' evidence goes through the encoder, layer by layer, with writing going on in between."""

from collections.abc import Iterator
from dataclasses import fields

import torch
from torch import Tensor

from mmrag.decoder.inputs import Batch, Chunk
from mmrag.decoder.model import FusionModel, State
from mmrag.decoder.plan import Admission

GROUP_TOKENS = 2_048
"""Encoded at a time: enough for matrix products to be efficient, and few enough to stay in the processor's cache."""


class Prefill:
    """The reading of several sequences at a time; their sequences go through the layers as one."""

    def __init__(self, model: FusionModel, admissions: list[Admission], device: torch.device):
        self.admissions = admissions
        self.states: list[State] = []
        self._model = model
        dtype = model.embedding.weight.dtype
        self._batches = [admission.evidence.to(device, dtype) for admission in admissions]
        self._encoded: list[dict[int, Tensor]] = [{} for _ in admissions]
        self._work = self._read()

    def advance(self, num_tokens: float) -> bool:
        """Read about that many tokens; whether all is read, and `states` hold a state [1] of each sequence."""
        while num_tokens > 0:
            spent = next(self._work, None)
            if spent is None:
                return True
            num_tokens -= spent
        return False

    def abandon(self) -> None:
        """Nobody wants it any more."""

    def _read(self) -> Iterator[float]:
        for group in groups(self._batches):
            runs = [merged([self._batches[b].chunks[i] for b, i in alike]) for alike in group]
            num_tokens, states = sum(run.ids.numel() for run in runs), None
            for states in self._model.encode_by_layers(runs):  # noqa: B007
                yield num_tokens / len(self._model.encoder)
            owners = [owner for alike in group for owner in alike]
            parts = states[:num_tokens].split([self._batches[b].chunks[i].ids.numel() for b, i in owners])
            for (b, i), part in zip(owners, parts, strict=True):
                self._encoded[b][i] = part
        for batch, encoded in zip(self._batches, self._encoded, strict=True):
            memory = self._model.remember(torch.cat([encoded[i] for i in range(len(batch.chunks))]), batch)
            self.states.append(self._model.begin(memory, batch))
            yield batch.source_ids.numel() / 4


def groups(batches: list[Batch]) -> Iterator[list[list[tuple[int, int]]]]:
    """Which chunks (batch, index) to encode together: up to `GROUP_TOKENS`, those of the same length side by side."""
    by_length: dict[int, list[tuple[int, int]]] = {}
    num_tokens = 0
    for b, batch in enumerate(batches):
        for i, chunk in enumerate(batch.chunks):
            if num_tokens + chunk.ids.numel() > GROUP_TOKENS and num_tokens:
                yield list(by_length.values())
                by_length, num_tokens = {}, 0
            by_length.setdefault(chunk.ids.shape[1], []).append((b, i))
            num_tokens += chunk.ids.numel()
    yield list(by_length.values())


def merged(chunks: list[Chunk]) -> Chunk:
    """Chunks of the same length as one."""
    if len(chunks) == 1:
        return chunks[0]
    return Chunk(*(torch.cat([getattr(chunk, field.name) for chunk in chunks]) for field in fields(Chunk)))
