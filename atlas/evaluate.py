"""The atlas's table: what mmrag answers about things it never saw, asked in words it never saw.

Every row goes through the whole pipeline over the whole knowledge base, as `mmrag ask --local` does.
"""

import asyncio
import io
import json
import random
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.asyncio import tqdm

from atlas.invented import document_of, invent_country, invent_flag
from atlas.photographs import photograph
from atlas.questions import Question, atlas_questions, caption_request, questions_about, read_entities
from mmrag.evaluation import Row, exact_match, recall_at_k
from mmrag.local import TENANT, Local, config_of
from mmrag.pipeline import Pipeline
from mmrag.types import Answer, Document, Passage, Query, SearchRequest

ATLAS = Path(__file__).parent
NUM_INVENTED = 40
MAX_CONCURRENT = 32
SEED = 20


@dataclass(slots=True)
class Asked:
    """A query, the answers that count as right, and the documents that hold them."""

    query: Query
    accepted: list[str]
    documents: set[str]


def evaluate(quick: bool = False) -> list[Row]:
    """All rows of the table; `quick` takes every eighth question."""
    return asyncio.run(_evaluate(8 if quick else 1))


async def _evaluate(one_in: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(ATLAS.parent / "serve_config.yaml")
        retriever = config.retriever.model_copy(update={"path": f"{folder}/atlas.sqlite"})
        local = Local(config.model_copy(update={"retriever": retriever}))
        await local.ingest(ATLAS)
        named, shown = (_country_questions(form)[::one_in] for form in ("named", "shown"))
        rows = await _reading(local, named, shown)
        rows += await _naming(local, one_in)
        rows += await _pictures(local, one_in)
        rows += await _descriptions(local, one_in)
        rows += await _invented(local, one_in)
        return rows + await _ablations(local, named[::2], shown[::2])


async def _reading(local: Local, named: list[Asked], shown: list[Asked]) -> list[Row]:
    by_name = await _ask(local.pipeline, named, "by name")
    by_flag = await _ask(local.pipeline, shown, "by flag")
    drawn = [one for one in map(_drawn_by_others, shown) if one is not None]
    by_other_flag = await _ask(local.pipeline, drawn, "by another artist's flag")
    blind = await _ask(local.pipeline_over(_NoKnowledge()), named + shown, "without retrieval")
    return [
        Row("exact match, question names the country", _matches(named, by_name), len(named), at_least=0.95),
        Row("— its document among the passages", _recall(named, by_name), len(named)),
        Row("exact match, question shows the flag (photographed)", _matches(shown, by_flag), len(shown), at_least=0.9),
        Row("— the flag drawn by an artist never trained on", _matches(drawn, by_other_flag), len(drawn)),
        Row("exact match without retrieval", _matches(named + shown, blind), len(named + shown), at_most=0.1),
    ]


async def _naming(local: Local, one_in: int) -> list[Row]:
    captions = _caption_questions()[::one_in]
    captioned = await _ask(local.pipeline, captions, "captions")
    continents = _continent_questions()
    classified = await _ask(local.pipeline, continents, "continents")
    given = [replace(one, query=replace(one.query, labels=_continents())) for one in continents]
    classified_given = await _ask(local.pipeline, given, "continents, labels given")
    exact = _matches(captions, captioned)
    return [
        Row("caption of an unseen emoji or flag, exact name", exact, len(captions), at_least=0.85),
        Row("continent classified from the flag", _matches(continents, classified), len(continents), at_least=0.95),
        Row("— among labels given by the caller", _matches(given, classified_given), len(given)),
    ]


async def _pictures(local: Local, one_in: int) -> list[Row]:
    """Image retrieval over all pictures of the knowledge base; flags nobody can tell apart are counted apart."""
    alike = {document for group in _alike() for document in group}
    rows, apart = [], []
    for name, paths, at_least in _picture_queries():
        apart += [_shown(name, path) for path in paths if path.stem in alike]
        asked = [_shown(name, path) for path in paths if path.stem not in alike][:: one_in if len(paths) > 100 else 1]
        found = await _each(asked, name, lambda one: local.pipeline.search(one.query))
        for k, least in zip((1, 5), at_least, strict=True):
            rows.append(Row(f"{name}, Recall@{k}", _recall(asked, found, k), len(asked), at_least=least))
    found = await _each(apart, "near-duplicates", lambda one: local.pipeline.search(one.query))
    name = "reported: flags that hardly differ from another's, Recall@1"
    return [*rows, Row(name, _recall(apart, found, 1), len(apart))]


async def _descriptions(local: Local, one_in: int) -> list[Row]:
    lines = [json.loads(line) for line in (ATLAS / "descriptions.jsonl").read_text(encoding="utf-8").splitlines()]
    unseen = set(_split("emoji"))
    asked = [
        Asked(Query(text=line["description"]), [], {line["document_id"]})
        for line in lines[::one_in]
        if line["document_id"] in unseen
    ]
    found = await _each(asked, "descriptions", lambda one: local.pipeline.search(one.query))
    return [Row("text → emoji picture, unseen descriptions, Recall@5", _recall(asked, found), len(asked), at_least=0.7)]


async def _invented(local: Local, one_in: int) -> list[Row]:
    rng = random.Random(SEED)
    named: list[Asked] = []
    shown: list[Asked] = []
    for _ in range(max(4, NUM_INVENTED // one_in)):
        country, flag = invent_country(rng), _as_png(invent_flag(rng))
        fields = document_of(rng, country, rng.choice(["facts", "unseen_facts"]))
        await local.pipeline.upsert(TENANT, [Document(**fields | {"images": [flag]})])
        named += [_asked(question) for question in questions_about(rng, country, "named")]
        shown += [_asked(question, photograph(flag, rng)) for question in questions_about(rng, country, "shown")]
    by_name = await _ask(local.pipeline, named, "invented, by name")
    by_flag = await _ask(local.pipeline, shown, "invented, by flag")
    for document_id in {document for one in named for document in one.documents}:
        await local.pipeline.delete(TENANT, document_id)
    return [
        Row("invented countries, by name", _matches(named, by_name), len(named), at_least=0.95),
        Row("invented countries, by flag (photographed)", _matches(shown, by_flag), len(shown), at_least=0.9),
    ]


async def _ablations(local: Local, named: list[Asked], shown: list[Asked]) -> list[Row]:
    rows = []
    for top_k in (1, 3, 5, 10):
        asked = [replace(one, query=replace(one.query, top_k=top_k)) for one in named + shown]
        answers = await _ask(local.pipeline, asked, f"K = {top_k}")
        rows.append(Row(f"reported: both kinds of question, K = {top_k}", _matches(asked, answers), len(asked)))
    answers = await _ask(local.pipeline_over(_NoImages(local)), shown, "without retrieved images")
    name = "reported: by flag, retrieved images not shown to the decoder"
    return [*rows, Row(name, _matches(shown, answers), len(shown))]


def _picture_queries() -> list[tuple[str, list[Path], tuple[float | None, float | None]]]:
    gallery = sorted((ATLAS / "images").glob("*.png"))
    queries = [("photographed pictures of the knowledge base", gallery, (0.95, None))]
    for artist, kind, name, musts in (
        ("cif", "countries", "flags by an artist never trained on", {"train": (0.95, None), "test": (0.92, None)}),
        ("fxemoji", "emoji", "emoji by an artist never trained on", {"train": (0.5, 0.7), "test": (0.45, 0.65)}),
    ):
        for side, things in (("train", "things trained on"), ("test", "things never seen")):
            drawn = [ATLAS / "heldout" / artist / f"{thing}.png" for thing in _split(kind, side)]
            queries.append((f"{name}, {things}", [path for path in drawn if path.is_file()], musts[side]))
    return queries


def _shown(name: str, path: Path) -> Asked:
    content = path.read_bytes()
    if name.startswith("photographed"):
        content = photograph(content, random.Random(path.stem))
    return Asked(Query(image=content), [], {path.stem})


def _country_questions(form: str) -> list[Asked]:
    rng = random.Random(SEED)
    asked = []
    for question in atlas_questions(ATLAS, "test", form, "test", seed=SEED):
        image = photograph(_picture(question.image_document_id), rng) if question.image_document_id else None
        asked.append(_asked(question, image))
    return asked


def _drawn_by_others(one: Asked) -> Asked | None:
    [document_id] = one.documents
    path = ATLAS / "heldout" / "cif" / f"{document_id}.png"
    return replace(one, query=replace(one.query, image=path.read_bytes())) if path.is_file() else None


def _caption_questions() -> list[Asked]:
    rng = random.Random(SEED)
    titles = {entity.id: entity.title for entity in read_entities(ATLAS)}
    twins = {id: [titles[twin] for twin in group] for group in _splits()["identical"] for id in group}
    return [
        Asked(
            Query(text=caption_request(rng), image=photograph(_picture(entity.id), rng), task="caption"),
            twins.get(entity.id, [entity.title]),
            {entity.id},
        )
        for entity in read_entities(ATLAS, "test")
    ]


def _continent_questions() -> list[Asked]:
    rng = random.Random(SEED)
    return [
        Asked(
            Query(image=photograph(_picture(country.id), rng), task="classify"),
            [country.values["continent"]],
            {country.id},
        )
        for country in read_entities(ATLAS, "test")
        if country.kind == "country"
    ]


def _asked(question: Question, image: bytes | None = None) -> Asked:
    return Asked(Query(text=question.text, image=image), question.accepted, {question.document_id})


def _picture(document_id: str) -> bytes:
    return (ATLAS / "images" / f"{document_id}.png").read_bytes()


def _as_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _continents() -> list[str]:
    return json.loads((ATLAS / "schema.json").read_text(encoding="utf-8"))["classify"]["continent"]


def _split(kind: str, side: str = "test") -> list[str]:
    return _splits()[kind][side]


def _alike() -> list[list[str]]:
    """Groups of documents whose flags are the same, or differ by a shade or by their proportions alone."""
    return [*_splits()["identical"], ["country-td", "country-ro"], ["country-id", "country-mc"]]


def _splits() -> dict:
    return json.loads((ATLAS / "splits.json").read_text(encoding="utf-8"))


async def _ask(pipeline: Pipeline, asked: list[Asked], name: str) -> list[Answer]:
    return await _each(asked, name, lambda one: pipeline.answer(replace(one.query)))


async def _each(asked: list[Asked], name: str, ask: Callable) -> list[Answer]:
    places = asyncio.Semaphore(MAX_CONCURRENT)

    async def one_at_its_turn(one: Asked) -> Answer:
        async with places:
            return await ask(one)

    return await tqdm.gather(*map(one_at_its_turn, asked), desc=name, leave=False)


def _matches(asked: list[Asked], answers: list[Answer]) -> float:
    return _mean(exact_match(answer.answer, one.accepted) for one, answer in zip(asked, answers, strict=True))


def _recall(asked: list[Asked], answers: list[Answer], k: int = 5) -> float:
    found = ([passage.document_id for passage in answer.passages] for answer in answers)
    return _mean(recall_at_k(ids, one.documents, k) for one, ids in zip(asked, found, strict=True))


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


class _NoKnowledge:
    """Retrieval switched off."""

    async def search(self, requests: list[SearchRequest]) -> list[list[Passage]]:
        return [[] for _ in requests]


class _NoImages:
    """Retrieval as it is, but the pictures of what was found are kept from the decoder."""

    def __init__(self, local: Local):
        self._knowledge = local.knowledge

    async def search(self, requests: list[SearchRequest]) -> list[list[Passage]]:
        found = await self._knowledge.search(requests)
        return [[_without_image(passage) for passage in passages] for passages in found]


def _without_image(passage: Passage) -> Passage:
    measured = {name: value for name, value in passage.similarities.items() if not name.endswith("_image")}
    return replace(passage, image_embedding=None, similarities=measured)
