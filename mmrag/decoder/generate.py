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


def score_labels(model: FusionModel, batch: Batch, tokenizer: Tokenizer, labels: list[list[str]]) -> list[list[float]]:
    """Probabilities of each request's own labels: the likelihood of writing each, normalised among them.

    The evidence is encoded once; the labels of all requests are scored in one teacher-forced pass.
    """
    rows = [row for row, of_request in enumerate(labels) for _ in of_request]
    every_label = [label for of_request in labels for label in of_request]
    targets = [tokenizer.encode(" " + label, add_special_tokens=False).ids for label in every_label]
    config, length = model.config, 1 + max(map(len, targets))
    wanted = torch.full((len(rows), length), config.pad_id, device=batch.source_ids.device)
    for i, target in enumerate(targets):
        wanted[i, : len(target) + 1] = torch.tensor([*target, config.end_id])
    given = torch.cat([torch.full_like(wanted[:, :1], config.start_id), wanted[:, :-1]], 1)
    state = model.begin(model.encode(batch), batch).select(torch.tensor(rows, device=wanted.device))
    ends = torch.tensor([len(target) for target in targets], device=wanted.device)
    real = torch.arange(length, device=wanted.device) <= ends[:, None]
    log_probabilities, _, _ = model.target_log_probabilities(given, wanted, real, state)
    scores = log_probabilities.sum(1)
    return [part.softmax(0).tolist() for part in scores.split([len(of_request) for of_request in labels])]
