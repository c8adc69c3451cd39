"""What an answer rests on: how much of it the pointer copied from each passage, word by word when asked."""

from dataclasses import dataclass, field

import numpy as np
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from mmrag.decoder.inputs import Batch, Prompt
from mmrag.types import Attribution, DecodeRequest

MAX_WORDS = 8
MIN_SHARE = 0.005


@dataclass(slots=True)
class Trace:
    """What is kept of each step of one sequence when it is to be explained.

    `copied` [S] per step: the part of the token's probability that came from each source token (sums to 1 at most);
    `regions` [G] per step: attention over the query image's grid.
    """

    tokens: list[int] = field(default_factory=list)
    copied: list[np.ndarray] = field(default_factory=list)
    regions: list[np.ndarray] = field(default_factory=list)


def copied_from(token: int, probability: float, attention: Tensor, share: Tensor, source_ids: Tensor) -> np.ndarray:
    """[S]: which part of the chosen token's probability each source token gave."""
    given = attention * (source_ids == token) * share / max(probability, 1e-9)
    return given.float().cpu().numpy()


def attribute(trace: Trace, request: DecodeRequest, batch: Batch, row: int, tokenizer: Tokenizer) -> Attribution:
    passage_of = batch.passage_of[row].cpu().numpy()
    per_token = [passage_shares(copied, passage_of, len(request.passages)) for copied in trace.copied]
    total = np.mean(per_token, 0) if per_token else np.zeros(len(request.passages))
    ids = [passage.id for passage in request.passages]
    tokens = [
        token_attribution(tokenizer.decode([token]), shares, copied, batch, row, request)
        for token, shares, copied in zip(trace.tokens, per_token, trace.copied, strict=True)
    ]
    regions = [np.round(region, 4).tolist() for region in trace.regions] if trace.regions else None
    return Attribution(dict(zip(ids, total.round(4).tolist(), strict=True)), tokens, regions)


def passage_shares(copied: np.ndarray, passage_of: np.ndarray, num_passages: int) -> np.ndarray:
    return np.array([copied[passage_of == k].sum() for k in range(num_passages)])


def token_attribution(token: str, shares: np.ndarray, copied: np.ndarray, batch: Batch, row: int, request) -> dict:
    pairs = zip(request.passages, shares, strict=True)
    named = {passage.id: round(float(share), 4) for passage, share in pairs if share >= MIN_SHARE}
    best = int(shares.argmax()) if len(shares) else -1
    words = words_in(copied, batch, row, best) if best >= 0 and shares[best] >= MIN_SHARE else []
    return {"token": token, "passages": named, "words": words}


def words_in(copied: np.ndarray, batch: Batch, row: int, passage: int) -> list[dict]:
    """The words of one passage that gave most: {"field", "start", "end", "share"}, in characters of the field."""
    prompt = batch.prompts[row][passage]
    start = sum(len(earlier.ids) for earlier in batch.prompts[row][:passage])
    shares = copied[start + prompt.copy_start : start + len(prompt.ids) - 1]
    places = [
        {"field": place[0], "start": place[1], "end": place[2], "share": round(float(share), 4)}
        for place, share in zip(places_of(prompt), shares, strict=False)  # a long passage was cut
        if place and share >= MIN_SHARE
    ]
    return sorted(places, key=lambda place: -place["share"])[:MAX_WORDS]


def places_of(prompt: Prompt) -> list[tuple[str, int, int] | None]:
    """For each copyable position the field and the characters it stands for; None for a marker."""
    between = [None] * prompt.num_between
    title = [*fields_of("title", prompt.title), *between] if prompt.title is not None else []
    return title + fields_of("text", prompt.text, leading_space=prompt.title is not None)


def fields_of(name: str, encoding: Encoding | None, leading_space: bool = True) -> list[tuple[str, int, int]]:
    shift = 1 if leading_space else 0
    offsets = encoding.offsets if encoding is not None else []
    return [(name, max(start - shift, 0), max(end - shift, 0)) for start, end in offsets]
