"""What an answer rests on: how much of each of its tokens came from each passage, word and region of the picture.

With a pointer, the part of a token's probability that was copied from a place: it agrees with leaving the passage
out. Without one, attention, which says where the model looked, and not what it used.
"""

import numpy as np
from tokenizers import Encoding, Tokenizer

from mmrag.decoder.plan import TokenTrace
from mmrag.decoder.prompts import Prompt
from mmrag.types import Attribution, DecodeRequest

MAX_PASSAGES = 3
"""Words are shown of so many of the best passages."""

MAX_WORDS = 8
MIN_SHARE = 0.005


def attribute(
    tokens: list[int], traces: list[TokenTrace], request: DecodeRequest, prompts: list[Prompt], tokenizer: Tokenizer
) -> Attribution:
    """`traces[i]` is where `tokens[i]` came from; `prompts` are what was read, in order."""
    kind = "copied" if traces and traces[0].copied is not None else "attended"
    ids = [passage.id for passage in request.passages]
    per_token = [passage_shares(getattr(trace, kind), prompts, len(ids)) for trace in traces]
    total = np.mean(per_token, 0) if per_token else np.zeros(len(ids))
    explained = [
        token_attribution(tokenizer.decode([token]), shares, trace, kind, prompts, request)
        for token, shares, trace in zip(tokens, per_token, traces, strict=True)
    ]
    regions = [None if trace.regions is None else trace.regions.astype(float).round(4).tolist() for trace in traces]
    return Attribution(
        passages=dict(zip(ids, total.round(4).tolist(), strict=True)),
        tokens=explained,
        regions=regions if regions and regions[0] is not None else None,
        kind=kind,
    )


def passage_shares(mass: np.ndarray, prompts: list[Prompt], num_passages: int) -> np.ndarray:
    """[num_passages] of the mass [S] on the source tokens."""
    shares = np.zeros(num_passages)
    for prompt, start in zip(prompts, starts(prompts), strict=True):
        if prompt.passage >= 0:
            shares[prompt.passage] += mass[start : start + len(prompt.ids)].sum()
    return shares


def starts(prompts: list[Prompt]) -> list[int]:
    """Where each prompt begins among the source tokens."""
    return np.cumsum([0, *(len(prompt.ids) for prompt in prompts)])[:-1].tolist()


def token_attribution(
    token: str, shares: np.ndarray, trace: TokenTrace, kind: str, prompts: list[Prompt], request: DecodeRequest
) -> dict:
    """One token of `types.Attribution.tokens`; `shares` [num_passages] of the mass of this `kind`."""
    mass = getattr(trace, kind)
    best = [int(k) for k in np.argsort(-shares, kind="stable")[:MAX_PASSAGES] if shares[k] >= MIN_SHARE]
    words = [word for k in best for word in words_in(mass, prompts, k, request.passages[k].id)]
    attended = passage_shares(trace.attended, prompts, len(shares))
    return {
        "token": token,
        "passages": named(shares, request),
        "attended": named(attended, request),
        "words": sorted(words, key=lambda word: -word["share"])[:MAX_WORDS],
    }


def named(shares: np.ndarray, request: DecodeRequest) -> dict[str, float]:
    """Passage id -> its share, where that is worth naming."""
    pairs = zip(request.passages, shares, strict=True)
    return {passage.id: round(float(share), 4) for passage, share in pairs if share >= MIN_SHARE}


def words_in(mass: np.ndarray, prompts: list[Prompt], passage: int, passage_id: str) -> list[dict]:
    """The words of one passage that gave most: {"passage", "field", "start", "end", "share"}, in characters."""
    index = next(i for i, prompt in enumerate(prompts) if prompt.passage == passage)
    prompt, start = prompts[index], starts(prompts)[index]
    shares = mass[start + prompt.copy_start : start + len(prompt.ids) - 1]
    return [
        {"passage": passage_id, "field": place[0], "start": place[1], "end": place[2], "share": round(float(share), 4)}
        for place, share in zip(places_of(prompt), shares, strict=False)  # a long passage was cut
        if place and share >= MIN_SHARE
    ]


def places_of(prompt: Prompt) -> list[tuple[str, int, int] | None]:
    """For each copyable position the field and the characters it stands for; None for what is between the fields."""
    title = fields_of("title", prompt.title) + [None] * prompt.num_between if prompt.title is not None else []
    return title + fields_of("text", prompt.text, leading_space=prompt.title is not None)


def fields_of(name: str, encoding: Encoding | None, leading_space: bool = True) -> list[tuple[str, int, int]]:
    """The characters of each token of a field; `leading_space`: one was put in front before it was tokenized."""
    shift = 1 if leading_space else 0
    offsets = encoding.offsets if encoding is not None else []
    return [(name, max(start - shift, 0), max(end - shift, 0)) for start, end in offsets]
