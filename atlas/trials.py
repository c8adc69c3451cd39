"""What the evaluation asks: queries about held-out things, each with the answers that count as right."""

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from atlas.invented import document_of, invent_country, invent_flag
from atlas.photographs import photograph
from atlas.questions import Question, atlas_questions, caption_request, questions_about, read_entities
from atlas.splits import read_splits
from atlas.wording import load_schema
from mmrag.types import Document, Query

ATLAS = Path(__file__).parent
SEED = 20


@dataclass(slots=True)
class Trial:
    """A query, the answers that count as right, and the documents that hold them."""

    query: Query
    accepted: list[str]
    documents: set[str]


@dataclass(slots=True)
class InventedCountry:
    """A document that no model can know, and questions about it: in words, and beside its photographed flag."""

    document: Document
    named: list[Trial]
    shown: list[Trial]


def country_trials(form: str, one_in: int = 1) -> list[Trial]:
    """Every fact of every held-out country (or one in so many), in unseen wordings; `form`: "named" or "shown"."""
    rng = random.Random(SEED)
    trials = []
    for question in atlas_questions(ATLAS, "test", form, "test", seed=SEED)[::one_in]:
        image = photograph(_picture(question.image_document_id), rng) if question.image_document_id else None
        trials.append(_trial(question, image))
    return trials


def drawn_by_others(shown: list[Trial]) -> list[Trial]:
    """The same questions beside the flag by an artist never trained on, where there is one."""
    paths = [(trial, ATLAS / "heldout" / "cif" / f"{min(trial.documents)}.png") for trial in shown]
    return [
        replace(trial, query=replace(trial.query, image=path.read_bytes())) for trial, path in paths if path.is_file()
    ]


def caption_trials() -> list[Trial]:
    """The name of every held-out flag and emoji, by its photograph."""
    rng = random.Random(SEED)
    titles = {entity.id: entity.title for entity in read_entities(ATLAS)}
    twins = {id: [titles[twin] for twin in group] for group in read_splits()["identical"] for id in group}
    return [
        Trial(
            Query(text=caption_request(rng), image=photograph(_picture(entity.id), rng), task="caption"),
            twins.get(entity.id, [entity.title]),
            {entity.id},
        )
        for entity in read_entities(ATLAS, "test")
    ]


def continent_trials() -> list[Trial]:
    """The continent of every held-out country, by the photograph of its flag."""
    rng = random.Random(SEED)
    return [
        Trial(
            Query(image=photograph(_picture(country.id), rng), task="classify"),
            [country.values["continent"]],
            {country.id},
        )
        for country in read_entities(ATLAS, "test")
        if country.kind == "country"
    ]


def with_continents(trials: list[Trial]) -> list[Trial]:
    """The same, with the continents as labels given by the caller."""
    continents = load_schema()["classify"]["continent"]
    return [replace(trial, query=replace(trial.query, labels=continents)) for trial in trials]


def description_trials() -> list[Trial]:
    """Held-out emoji by what people call them, in words that the knowledge base does not hold."""
    lines = [json.loads(line) for line in (ATLAS / "descriptions.jsonl").read_text(encoding="utf-8").splitlines()]
    unseen = set(read_splits()["emoji"]["test"])
    return [
        Trial(Query(text=line["description"]), [], {line["document_id"]})
        for line in lines
        if line["document_id"] in unseen
    ]


def picture_trials(paths: list[Path], photographed: bool = False) -> list[Trial]:
    """Which document a picture belongs to, whose id is the file's name."""
    return [
        Trial(Query(image=photograph(content, random.Random(path.stem)) if photographed else content), [], {path.stem})
        for path in paths
        for content in [path.read_bytes()]
    ]


def invented_countries(num: int) -> Iterator[InventedCountry]:
    """Countries made up now, in documents half of which state their facts in words never trained on."""
    rng = random.Random(SEED)
    for _ in range(num):
        country, flag = invent_country(rng), _as_png(invent_flag(rng))
        fields = document_of(rng, country, rng.choice(["facts", "unseen_facts"]))
        named = [_trial(question) for question in questions_about(rng, country, "named")]
        shown = [_trial(question, photograph(flag, rng)) for question in questions_about(rng, country, "shown")]
        yield InventedCountry(Document(**fields | {"images": [flag]}), named, shown)


def with_top_k(trials: list[Trial], top_k: int) -> list[Trial]:
    """The same, read from so many passages."""
    return [replace(trial, query=replace(trial.query, top_k=top_k)) for trial in trials]


def _trial(question: Question, image: bytes | None = None) -> Trial:
    return Trial(Query(text=question.text, image=image), question.accepted, {question.document_id})


def _picture(document_id: str) -> bytes:
    return (ATLAS / "images" / f"{document_id}.png").read_bytes()


def _as_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
