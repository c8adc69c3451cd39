"""Training the fusion additions on a user's own questions; the T5 they are added to stays as it is.

One question a line: {"text"?, "image"? (a path inside the file's folder, or a data URI), "answer", "task"?,
"labels"?, "document_id"? (the document that answers it)}. What the knowledge base brings for each is gathered once.
"""

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mmrag.components.answer_decoder import question_reader
from mmrag.config import AppConfig
from mmrag.decoder.additions import with_additions
from mmrag.decoder.fusion import FusionDecoder
from mmrag.errors import InvalidRequest, MmragError
from mmrag.knowledge.pictures import read_image
from mmrag.local import Local
from mmrag.training.data import Example, drop_modality
from mmrag.training.decoder import train_decoder
from mmrag.training.decoder_config import DecoderTrainingConfig
from mmrag.training.device import best_device
from mmrag.types import Decoded, DecodeRequest, Query
from mmrag.validation import check_query

FIELDS = ("text", "image", "answer", "task", "labels", "document_id")
QUESTIONS_AT_A_TIME = 32
VALIDATION_SHARE, MAX_VALIDATION = 0.1, 200
MODALITY_DROPOUT = 0.1


@dataclass(slots=True)
class Question:
    """A question and the answer that is wanted; `document_id`: what it rests on, where that is known."""

    query: Query
    answer: str
    document_id: str | None = None


class Listener:
    """Stands where the decoder stands in a pipeline, and keeps what it would read."""

    heard: DecodeRequest

    async def decode(self, requests: list[DecodeRequest]) -> list[Decoded]:
        [self.heard] = requests
        return [Decoded("")]


def train_on_questions(
    questions: Path,
    base: str,
    out_dir: Path,
    config: AppConfig,
    training: DecoderTrainingConfig,
    device: str | None = None,
) -> FusionDecoder:
    """Train the additions to the decoder `base` on a file of questions; goes on where an earlier run stopped.

    Raises InvalidRequest for a file of questions that cannot be used, ConfigurationError for a base.
    """
    asked = read_questions(questions, config)
    decoder = FusionDecoder.load(base, device or best_device(), config.decoder.max_passage_tokens)
    examples = asyncio.run(gather_evidence(asked, config))
    read_all_questions(examples, question_reader(decoder.model.config))
    model = with_additions(decoder.model, **widths(examples))
    decoder = FusionDecoder(model, decoder.tokenizer, decoder.device, config.decoder.max_passage_tokens)
    random.Random(0).shuffle(examples)
    num_held_out = min(MAX_VALIDATION, int(VALIDATION_SHARE * len(examples)))
    held_out, examples = examples[:num_held_out], examples[num_held_out:]
    return train_decoder(decoder, endless(examples), training, out_dir, validation=held_out)


def read_questions(path: Path, config: AppConfig) -> list[Question]:
    """All questions of a file. Raises InvalidRequest at the first that cannot be used, and names its line."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidRequest(f"the questions {path} cannot be read: {error.strerror}") from error
    questions = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                questions.append(question_of(json.loads(line), path.parent, config))
            except (ValueError, MmragError) as error:
                raise InvalidRequest(f"{path}:{number}: {error}") from error
    if not questions:
        raise InvalidRequest(f"{path} holds no questions; each is a line with {', '.join(FIELDS)}")
    return questions


def question_of(row: Any, folder: Path, config: AppConfig) -> Question:
    if not isinstance(row, dict) or set(row) - set(FIELDS):
        unknown = ", ".join(sorted(set(row) - set(FIELDS))) if isinstance(row, dict) else type(row).__name__
        raise InvalidRequest(f"a question is an object with {', '.join(FIELDS)}; here is {unknown}")
    answer = row.get("answer")
    if not isinstance(answer, str) or not answer.strip():
        raise InvalidRequest("answer must be a text: what should be answered")
    image = read_image(folder, row["image"], "image", config.limits) if row.get("image") else None
    query = Query(row.get("text"), image, row.get("task", "answer"), row.get("labels") or [])
    query.top_k = config.decoder.max_passages
    check_query(query, config.limits)
    return Question(query, answer.strip(), row.get("document_id"))


async def gather_evidence(questions: list[Question], config: AppConfig) -> list[Example]:
    """What the decoder would read for each question now, from the knowledge base of the configuration."""
    local = Local(config, has_decoder=False)
    examples = []
    with tqdm(total=len(questions), desc="evidence", unit=" questions") as bar:
        for first in range(0, len(questions), QUESTIONS_AT_A_TIME):
            group = questions[first : first + QUESTIONS_AT_A_TIME]
            examples += await asyncio.gather(*(example_of(question, local) for question in group))
            bar.update(len(group))
    return examples


async def example_of(question: Question, local: Local) -> Example:
    listener = Listener()
    await local.pipeline_with(decoder=listener).answer(question.query)
    request = replace(listener.heard, deadline_s=None)
    return Example(request, question.answer, gold_of(question, request), group_of(request))


def read_all_questions(examples: list[Example], read: Callable[[str], np.ndarray] | None) -> None:
    """Give requests what a base that was trained with it reads questions from."""
    for request in (example.request for example in examples if read is not None):
        request.question_states = read(request.text) if request.text else None


def gold_of(question: Question, request: DecodeRequest) -> int:
    """The first passage of the named document, else the first that holds the answer; -1 where there is none."""
    for i, passage in enumerate(request.passages):
        holds_answer = question.answer.lower() in f"{passage.title} {passage.text}".lower()
        if holds_answer and question.document_id in (None, passage.document_id):
            return i
    return -1


def group_of(request: DecodeRequest) -> str:
    given = [name for name, value in (("text", request.text), ("image", request.image_embedding)) if value is not None]
    return " and ".join(given)


def widths(examples: list[Example]) -> dict[str, int]:
    """How wide the embeddings are that the decoder is given; what no question shows stays as it is."""
    found = {}
    for request in (example.request for example in examples):
        for passage in (request, *request.passages):
            for name in ("text", "image"):
                if (embedding := getattr(passage, f"{name}_embedding")) is not None:
                    found[f"{name}_dimension"] = len(embedding)
        if request.image_grid is not None:
            found["grid_dimension"] = request.image_grid.shape[1]
    return found


def endless(examples: list[Example], seed: int = 0) -> Iterator[Example]:
    """The examples in ever new order; now and then a modality is missing, as when an encoder is down."""
    rng = np.random.default_rng(seed)
    while True:
        for i in rng.permutation(len(examples)):
            request = copy(examples[i].request)
            request.passages = [replace(p, similarities=dict(p.similarities)) for p in request.passages]
            drop_modality(request, rng, MODALITY_DROPOUT)
            yield replace(examples[i], request=request)
