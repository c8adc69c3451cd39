"""From requests to tensors: which tokens, masks, features and embeddings the network reads.

Shapes: B requests, K passages at most, S source tokens, G regions of a picture, F features, d numbers of an embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import groupby

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from mmrag.decoder.prompts import Prompt, PromptBuilder
from mmrag.decoder.settings import DecoderModelConfig
from mmrag.errors import ConfigurationError
from mmrag.types import DecodeRequest

MEASURES = ("bm25", "text_text", "text_image", "image_image", "image_text", "label")
NUM_FEATURES = 3 * len(MEASURES) + 4
QUERY_TEXT, PASSAGE_TEXT, QUERY_IMAGE, PASSAGE_IMAGE, GRID = range(5)
NUM_KINDS = 5
MAX_CHUNK_TOKENS = 8_192
MAX_WASTED_TOKENS = 256


@dataclass(slots=True)
class Chunk:
    """n sequences of like length L, encoded together.

    ids [n, L] int64; mask [n, L]; features [n, F]; question [n, question_dimension] and has_question [n], see `Batch`;
    in_query [n, L]: 1.0 where the token also stands in the question; sentences: the lengths of all their sentences,
    padding being one, which sum to n * L.
    """

    ids: Tensor
    mask: Tensor
    features: Tensor
    question: Tensor
    has_question: Tensor
    in_query: Tensor
    sentences: Tensor


@dataclass(slots=True)
class Batch:
    """B requests with at most S source tokens, K passages and G regions.

    `positions` [B, S] finds each source token in the flattened chunks. Embeddings: row 0 is the query's, row k
    passage k's; [B, 1 + K, dimension]. Masks are True where something is there. `question` [B, question_dimension]
    float32 on every device, `has_question` [B] 1.0 or 0.0.
    """

    chunks: list[Chunk]
    positions: Tensor
    source_ids: Tensor
    source_mask: Tensor
    copyable: Tensor
    passage_of: Tensor
    features: Tensor
    text_embeddings: Tensor
    text_embeddings_mask: Tensor
    text_kinds: Tensor
    image_embeddings: Tensor
    image_embeddings_mask: Tensor
    image_kinds: Tensor
    grid: Tensor
    grid_mask: Tensor
    question: Tensor
    has_question: Tensor
    prompts: list[list[Prompt]]

    def to(self, device: str | torch.device, dtype: torch.dtype = torch.float32) -> "Batch":
        """On another device; floating-point numbers as `dtype`."""
        if torch.device(device).type == "cpu" and dtype == torch.float32:
            return self

        def moved(name: str, value):
            if not isinstance(value, Tensor):
                return value
            is_rounded = value.is_floating_point() and name != "question"  # it is standardised first
            return value.to(device, dtype) if is_rounded else value.to(device)

        chunks = [Chunk(*(moved(f.name, getattr(chunk, f.name)) for f in fields(Chunk))) for chunk in self.chunks]
        return Batch(**{f.name: moved(f.name, getattr(self, f.name)) for f in fields(self)} | {"chunks": chunks})


Grouping = Callable[[list[tuple[int, int]], list[list[Prompt]]], list[list[tuple[int, int]]]]
"""Cuts (request, prompt) pairs, sorted by length, into those that are encoded together."""


class InputBuilder:
    """Builds batches for a model of this `config`.

    `build` and `build_alone` raise ConfigurationError when an embedding's width is not what it was trained with.
    """

    def __init__(self, tokenizer: Tokenizer, config: DecoderModelConfig, max_passage_tokens: int = 256):
        self.tokenizer, self.config = tokenizer, config
        self.prompts = PromptBuilder(tokenizer, config.end_id, max_passage_tokens)

    def build_alone(self, request: DecodeRequest) -> Batch:
        """A batch of one, which is the same in any company: each chunk holds sequences of one length."""
        return self._build([request], same_lengths)

    def build(self, requests: list[DecodeRequest]) -> Batch:
        """A batch of all; sequences of like length are padded to one."""
        return self._build(requests, like_lengths)

    def _build(self, requests: list[DecodeRequest], grouped: Grouping) -> Batch:
        prompts = [self.prompts.build(request) for request in requests]
        features = [passage_features(request) for request in requests]
        embeddings = self.embeddings(requests, features)
        return Batch(**self.sources(requests, prompts, features, grouped), **embeddings, prompts=prompts)

    def sources(
        self, requests: list[DecodeRequest], prompts: list[list[Prompt]], features: list[np.ndarray], grouped: Grouping
    ) -> dict:
        """The chunks, and where each request's tokens lie in them: the first half of a Batch's fields."""
        owners = [(b, i) for b, of_request in enumerate(prompts) for i in range(len(of_request))]
        owners.sort(key=lambda owner: len(prompts[owner[0]][owner[1]].ids))
        chunks, offset, starts = [], 0, {}
        for group in grouped(owners, prompts):
            chunks.append(self.chunk(requests, group, prompts, features))
            length = chunks[-1].ids.shape[1]
            starts |= {owner: offset + row * length for row, owner in enumerate(group)}
            offset += len(group) * length
        return {"chunks": chunks} | self.layout(prompts, starts)

    def chunk(self, requests: list[DecodeRequest], group: list, prompts: list, features: list[np.ndarray]) -> Chunk:
        chosen = [prompts[b][i] for b, i in group]
        ids = np.full((len(group), max(len(prompt.ids) for prompt in chosen)), self.config.pad_id)
        in_query = np.zeros(ids.shape, np.float32)
        for row, prompt in enumerate(chosen):
            ids[row, : len(prompt.ids)] = prompt.ids
            asked = set(prompt.ids[: prompt.copy_start])
            copied = prompt.ids[prompt.copy_start :]
            in_query[row, prompt.copy_start : len(prompt.ids)] = [token in asked for token in copied]
        lengths = np.array([len(prompt.ids) for prompt in chosen])
        mask = np.arange(ids.shape[1]) < lengths[:, None]
        rows = np.stack([features[b][prompt.passage + 1] for (b, _), prompt in zip(group, chosen, strict=True)])
        question, has_question = self.questions([requests[b] for b, _ in group])
        ids, mask, rows, in_query = map(torch.from_numpy, (ids, mask, rows, in_query))
        sentences = torch.tensor([part for prompt in chosen for part in with_padding(prompt, ids.shape[1])])
        return Chunk(ids, mask, rows, question, has_question, in_query, sentences)

    def questions(self, requests: list[DecodeRequest]) -> tuple[Tensor, Tensor]:
        """What each question is read from [n, question_dimension], 0 where there is nothing; and where, 1.0 or 0.0."""
        config = self.config
        stacked = np.zeros((len(requests), config.question_dimension), np.float32)
        found = [one.question_states if config.question_layers else one.text_embedding for one in requests]
        for row, vector in zip(stacked, found if config.evidence else [], strict=False):
            if vector is not None:
                check_width(np.ravel(vector), config.question_dimension)
                row[:] = np.ravel(vector)
        has_question = torch.tensor([float(vector is not None) for vector in found])
        return torch.from_numpy(stacked), has_question

    def layout(self, prompts: list[list[Prompt]], starts: dict) -> dict:
        """`positions` to `passage_of` of a Batch; `starts`: (request, prompt) -> where it begins in the chunks."""
        shape = len(prompts), max(sum(len(prompt.ids) for prompt in of_request) for of_request in prompts)
        positions, source_ids = np.zeros(shape, np.int64), np.full(shape, self.config.pad_id)
        mask, copyable, passage_of = np.zeros(shape, bool), np.zeros(shape, bool), np.full(shape, -1)
        for b, of_request in enumerate(prompts):
            at = 0
            for i, prompt in enumerate(of_request):
                here = slice(at, at + len(prompt.ids))
                positions[b, here] = np.arange(starts[b, i], starts[b, i] + len(prompt.ids))
                source_ids[b, here], mask[b, here], passage_of[b, here] = prompt.ids, True, prompt.passage
                copyable[b, at + prompt.copy_start : here.stop - 1] = True
                at = here.stop
        if self.prompts.has_markers:
            copyable &= source_ids != self.prompts.markers["<text>"]
        arrays = {"positions": positions, "source_ids": source_ids, "source_mask": mask, "copyable": copyable}
        return {name: torch.from_numpy(array) for name, array in (arrays | {"passage_of": passage_of}).items()}

    def embeddings(self, requests: list[DecodeRequest], features: list[np.ndarray]) -> dict:
        """`features` to `has_question` of a Batch."""
        size = len(requests), 1 + max(len(request.passages) for request in requests)
        texts = [[r.text_embedding, *(p.text_embedding for p in r.passages)] for r in requests]
        images = [[r.image_embedding, *(p.image_embedding for p in r.passages)] for r in requests]
        grids = [[] if r.image_grid is None else list(r.image_grid) for r in requests]
        stacked = np.zeros((*size, NUM_FEATURES), np.float32)
        for b, rows in enumerate(features):
            stacked[b, : len(rows)] = rows
        config, num_regions = self.config, max(1, max(map(len, grids)))
        text, text_mask = stack_present(texts, size[1], config.text_dimension, config.evidence)
        image, image_mask = stack_present(images, size[1], config.image_dimension, config.evidence)
        grid, grid_mask = stack_present(grids, num_regions, config.grid_dimension, config.evidence)
        question, has_question = self.questions(requests)
        return {
            "features": torch.from_numpy(stacked),
            "text_embeddings": text, "text_embeddings_mask": text_mask, "text_kinds": kinds(size, QUERY_TEXT),
            "image_embeddings": image, "image_embeddings_mask": image_mask, "image_kinds": kinds(size, QUERY_IMAGE),
            "grid": grid, "grid_mask": grid_mask, "question": question, "has_question": has_question,
        }


def with_padding(prompt: Prompt, length: int) -> list[int]:
    """The lengths of the prompt's sentences, or its own where they are not known, and of the padding behind it."""
    parts = prompt.sentences or [len(prompt.ids)]
    return [*parts, length - sum(parts)] if sum(parts) < length else parts


def same_lengths(owners: list, prompts: list[list[Prompt]]) -> list[list]:
    """Cut sequences sorted by length into groups of the same length."""

    def length(owner: tuple[int, int]) -> int:
        return len(prompts[owner[0]][owner[1]].ids)

    return [list(group) for _, group in groupby(owners, length)]


def like_lengths(owners: list, prompts: list[list[Prompt]]) -> list[list]:
    """Cut sequences sorted by length into groups that waste little on padding."""
    groups: list[list] = []
    wasted = last = 0
    for b, i in owners:
        length = len(prompts[b][i].ids)
        size = len(groups[-1]) if groups else 0
        wasted += (length - last) * size
        if not groups or wasted > max(MAX_WASTED_TOKENS, 0.1 * length * size) or length * size > MAX_CHUNK_TOKENS:
            groups.append([])
            wasted = 0
        groups[-1].append((b, i))
        last = length
    return groups


def kinds(size: tuple[int, int], query_kind: int) -> Tensor:
    """int64 [B, 1 + K]: the query's kind, then the passages'."""
    kind = torch.full(size, query_kind + 1)
    kind[:, 0] = query_kind
    return kind


def stack_present(rows: list[list], length: int, dimension: int, evidence: bool) -> tuple[Tensor, Tensor]:
    """The vectors of each request, float32 [B, length, d], and where there are any [B, length]."""
    stacked, mask = np.zeros((len(rows), length, dimension), np.float32), np.zeros((len(rows), length), bool)
    for b, of_request in enumerate(rows if evidence else []):
        for i, vector in enumerate(of_request):
            if vector is not None:
                check_width(vector, dimension)
                stacked[b, i], mask[b, i] = vector, True
    return torch.from_numpy(stacked), torch.from_numpy(mask)


def check_width(vector: np.ndarray, dimension: int) -> None:
    """Raises ConfigurationError unless the vector has this dimension."""
    if len(vector) != dimension:
        raise ConfigurationError(
            f"an embedding has {len(vector)} numbers, the decoder was trained with {dimension}: "
            "use the encoders it was trained with, or train the decoder again"
        )


def passage_features(request: DecodeRequest) -> np.ndarray:
    """[1 + K, F] float32: for each measure its value, whether it was measured, and its lead over the best other
    passage; then the rank, whether it is the first, and what the query consists of. Row 0 stands for the query."""
    num = len(request.passages)
    features = np.zeros((1 + num, NUM_FEATURES), np.float32)
    values = np.full((num, len(MEASURES)), np.nan, np.float32)
    for k, passage in enumerate(request.passages):
        values[k] = [passage.similarities.get(name, np.nan) for name in MEASURES]
    present = ~np.isnan(values)
    values = np.where(present, values, 0.0)
    for k in range(num):
        others = np.delete(values, k, 0)
        lead = values[k] - others.max(0) if num > 1 else values[k] * 0
        features[k + 1, :-4] = np.concatenate([values[k], present[k], np.where(present[k], lead, 0.0)])
        features[k + 1, -4:-2] = 1 / (k + 1), k == 0
    features[:, -2:] = request.text is not None, request.image_embedding is not None
    return features
