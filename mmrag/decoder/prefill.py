"""Reading: newcomers' evidence goes through the encoder, layer by layer, with writing going on in between."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmrag.decoder.inputs import MAX_CHUNK_TOKENS, Batch, Chunk
from mmrag.decoder.model import FusionModel, State
from mmrag.decoder.plan import Admission


class Prefill:
    """The reading of several sequences at a time; what is alike in length is encoded together, whoever it is for."""

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

    def _read(self) -> Iterator[float]:
        for group in groups(self._batches):
            chunk = merged([self._batches[b].chunks[i] for b, i in group])
            num_tokens, states = chunk.ids.numel(), None
            for states in self._model.encode_by_layers(chunk):  # noqa: B007
                yield num_tokens / len(self._model.encoder)
            parts = states.split([len(self._batches[b].chunks[i].ids) for b, i in group])
            for (b, i), part in zip(group, parts, strict=True):
                self._encoded[b][i] = part.flatten(0, 1)
        for batch, encoded in zip(self._batches, self._encoded, strict=True):
            memory = self._model.remember(torch.cat([encoded[i] for i in range(len(batch.chunks))]), batch)
            self.states.append(self._model.begin(memory, batch))
            yield batch.source_ids.numel() / 4


def groups(batches: list[Batch]) -> Iterator[list[tuple[int, int]]]:
    """Which chunks (batch, index) to encode together: those of the same length, up to `MAX_CHUNK_TOKENS`."""
    by_length: dict[int, list[tuple[int, int]]] = {}
    for b, batch in enumerate(batches):
        for i, chunk in enumerate(batch.chunks):
            by_length.setdefault(chunk.ids.shape[1], []).append((b, i))
    for alike in by_length.values():
        group: list[tuple[int, int]] = []
        num_tokens = 0
        for b, i in alike:
            size = batches[b].chunks[i].ids.numel()
            if group and num_tokens + size > MAX_CHUNK_TOKENS:
                yield group
                group, num_tokens = [], 0
            group.append((b, i))
            num_tokens += size
        yield group


def merged(chunks: list[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    names = Chunk.__slots__
    return Chunk(*(torch.cat([getattr(chunk, name) for chunk in chunks]) for name in names))
