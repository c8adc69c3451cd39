"""Greedy generation for a batch of requests: the simple, correct form, with cached keys and values."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer
from torch import Tensor

from mmrag.decoder.attribution import Trace, copied_from
from mmrag.decoder.heads import Copying
from mmrag.decoder.inputs import Batch
from mmrag.decoder.model import FusionModel, State
from mmrag.types import DecodeRequest

LABELS_AT_A_TIME = 4
"""Each needs the whole of its request's evidence for itself: many at a time need memory by the gigabyte."""
MAX_LABEL_TOKENS = 32


@dataclass(slots=True)
class Generated:
    """The tokens written for one request, without the end token."""

    tokens: list[int] = field(default_factory=list)
    finish_reason: str = ""
    trace: Trace | None = None


def generate(model: FusionModel, batch: Batch, requests: list[DecodeRequest]) -> Iterator[list[Generated]]:
    """Write greedily, one token for each unfinished request a step; yields the same list after each step."""
    state = model.begin(model.encode(batch), batch)
    written = [Generated(trace=Trace() if request.explain else None) for request in requests]
    ids = torch.full((len(requests), 1), model.config.start_id, device=batch.source_ids.device)
    while not all(sequence.finish_reason for sequence in written):
        probabilities, copying = model.next_token(ids, state)
        ids = probabilities.argmax(-1, keepdim=True)
        for row, (sequence, request) in enumerate(zip(written, requests, strict=True)):
            if not sequence.finish_reason:
                append(sequence, int(ids[row]), request, model.config.end_id)
                if sequence.trace is not None and sequence.finish_reason != "stop":
                    explain(sequence.trace, int(ids[row]), row, probabilities, copying, state, batch)
        yield written


def append(sequence: Generated, token: int, request: DecodeRequest, end_id: int) -> None:
    if token == end_id:
        sequence.finish_reason = "stop"
        return
    sequence.tokens.append(token)
    if len(sequence.tokens) >= request.max_new_tokens:
        sequence.finish_reason = "length"


def explain(
    trace: Trace, token: int, row: int, probabilities: Tensor, copying: Copying | None, state: State, batch: Batch
) -> None:
    trace.tokens.append(token)
    if copying is not None:
        attention, share = copying.attention[row, -1], copying.share[row, -1]
        probability = float(probabilities[row, token])
        trace.copied.append(copied_from(token, probability, attention, share, batch.source_ids[row]))
    if state.attention is not None and batch.grid_mask[row].any():
        num_regions = int(batch.grid_mask[row].sum())
        over_grid = state.attention[row, :, -1, -batch.grid.shape[1] :].mean(0)[:num_regions]
        trace.regions.append((over_grid / over_grid.sum().clamp(min=1e-9)).float().cpu().numpy())


def score_trained_labels(model: FusionModel, batch: Batch) -> list[list[float]]:
    """Probabilities of the model's own labels for each request, by its label head."""
    start = torch.full((len(batch.source_ids), 1), model.config.start_id, device=batch.source_ids.device)
    hidden = model.step(start, model.begin(model.encode(batch), batch))
    return model.labels(hidden[:, 0]).float().softmax(-1).tolist()


def score_labels(model: FusionModel, batch: Batch, tokenizer: Tokenizer, labels: list[list[str]]) -> list[list[float]]:
    """Probabilities of each request's own labels: the likelihood of writing each, normalised among them.

    The evidence is encoded once; the labels are scored by teacher forcing, `LABELS_AT_A_TIME`. Of a long label only
    the first `MAX_LABEL_TOKENS` count.
    """
    rows = [row for row, of_request in enumerate(labels) for _ in of_request]
    texts = [" " + label for of_request in labels for label in of_request]
    targets = [[*tokenizer.encode(text, add_special_tokens=False).ids, model.config.end_id] for text in texts]
    targets = [target[:MAX_LABEL_TOKENS] for target in targets]
    state, scores = model.begin(model.encode(batch), batch), []
    for first in range(0, len(rows), LABELS_AT_A_TIME):
        group = slice(first, first + LABELS_AT_A_TIME)
        here = state.select(torch.tensor(rows[group], device=batch.source_ids.device))
        scores.append(score_targets(model, here, targets[group]))
    return [part.softmax(0).tolist() for part in torch.cat(scores).split([len(of_request) for of_request in labels])]


def score_targets(model: FusionModel, state: State, targets: list[list[int]]) -> Tensor:
    """Log-likelihood [n] of each sequence of tokens, after row i of a fresh state."""
    lengths = torch.tensor([len(target) for target in targets])
    wanted = torch.full((len(targets), int(lengths.max())), model.config.pad_id)
    for i, target in enumerate(targets):
        wanted[i, : len(target)] = torch.tensor(target)
    given = torch.cat([torch.full_like(wanted[:, :1], model.config.start_id), wanted[:, :-1]], 1)
    real = torch.arange(wanted.shape[1]) < lengths[:, None]
    on_device = [tensor.to(state.source.ids.device) for tensor in (given, wanted, real)]
    log_probabilities, _, _ = model.target_log_probabilities(*on_device, state)
    return log_probabilities.sum(1)
