"""The atlas's table: what mmrag answers about things it never saw, asked in words it never saw.

Every row goes through the whole pipeline over the whole knowledge base, as `mmrag ask --local` does.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

from atlas.asking import ask, matches, recall, search, whole_atlas, with_invented
from atlas.faithfulness import faithfulness
from atlas.splits import read_splits
from atlas.trials import (
    ATLAS,
    Trial,
    caption_trials,
    continent_trials,
    country_trials,
    description_trials,
    drawn_by_others,
    picture_trials,
    with_continents,
    with_top_k,
)
from mmrag.config import AppConfig
from mmrag.evaluation import Row
from mmrag.knowledge_base import KnowledgeBase
from mmrag.local import Local
from mmrag.types import Evidence, Passage, SearchRequest

NUM_INVENTED = 40
PHOTOGRAPHED = "photographed pictures of the knowledge base"


def evaluate(quick: bool = False, store: str = "sqlite") -> list[Row]:
    """All rows of the table; `quick` takes every eighth question; `store`: the kind of store it is all kept in."""
    return asyncio.run(_evaluate(8 if quick else 1, store))


async def _evaluate(one_in: int, store: str) -> list[Row]:
    async with whole_atlas(store) as (local, config):
        named, shown = (country_trials(form, one_in) for form in ("named", "shown"))
        rows = await _reading(local, named, shown)
        rows += await _naming(local, one_in)
        rows += await _pictures(local, one_in)
        rows += await _descriptions(local, one_in)
        rows += await _invented(local, one_in)
        rows += await faithfulness(local.pipeline, [*named[::4], *shown[::4]])
        rows += await _by_number_of_passages(local, [*named[::2], *shown[::2]])
        return rows + await _without_images(local, config, named[::2], shown[::2])


async def _reading(local: Local, named: list[Trial], shown: list[Trial]) -> list[Row]:
    by_name = await ask(local.pipeline, named, "by name")
    by_flag = await ask(local.pipeline, shown, "by flag")
    drawn = drawn_by_others(shown)
    by_other_flag = await ask(local.pipeline, drawn, "by another artist's flag")
    blind = await ask(local.pipeline_with(knowledge=_NoKnowledge()), named + shown, "without retrieval")
    return [
        Row("exact match, question names the country", matches(named, by_name), len(named), at_least=0.95),
        Row("— its document among the passages", recall(named, by_name), len(named)),
        Row("exact match, question shows the flag (photographed)", matches(shown, by_flag), len(shown), at_least=0.9),
        Row("— the flag drawn by an artist never trained on", matches(drawn, by_other_flag), len(drawn)),
        Row("exact match without retrieval", matches(named + shown, blind), len(named + shown), at_most=0.1),
    ]


async def _naming(local: Local, one_in: int) -> list[Row]:
    captions, continents = caption_trials()[::one_in], continent_trials()
    given = with_continents(continents)
    named = matches(captions, await ask(local.pipeline, captions, "captions"))
    placed = matches(continents, await ask(local.pipeline, continents, "continents"))
    placed_given = matches(given, await ask(local.pipeline, given, "continents, labels given"))
    return [
        Row("caption of an unseen emoji or flag, exact name", named, len(captions), at_least=0.85),
        Row("continent classified from the flag", placed, len(continents), at_least=0.95),
        Row("— among labels given by the caller", placed_given, len(given)),
    ]


async def _pictures(local: Local, one_in: int) -> list[Row]:
    """Image retrieval over all pictures of the knowledge base; flags nobody can tell apart are counted apart."""
    alike = {document for group in _alike() for document in group}
    rows, apart = [], []
    for name, paths, at_least in _picture_queries():
        is_photographed = name == PHOTOGRAPHED
        apart += picture_trials([path for path in paths if path.stem in alike], is_photographed)
        paths = [path for path in paths if path.stem not in alike][:: one_in if len(paths) > 100 else 1]
        trials = picture_trials(paths, is_photographed)
        found = await search(local.pipeline, trials, name)
        for k, least in zip((1, 5), at_least, strict=True):
            rows.append(Row(f"{name}, Recall@{k}", recall(trials, found, k), len(trials), at_least=least))
    found = await search(local.pipeline, apart, "near-duplicates")
    name = "reported: flags that hardly differ from another's, Recall@1"
    return [*rows, Row(name, recall(apart, found, 1), len(apart))]


def _picture_queries() -> list[tuple[str, list[Path], tuple[float | None, float | None]]]:
    queries = [(PHOTOGRAPHED, sorted((ATLAS / "images").glob("*.png")), (0.95, None))]
    for artist, kind, name, musts in (
        ("cif", "countries", "flags by an artist never trained on", {"train": (0.95, None), "test": (0.92, None)}),
        ("fxemoji", "emoji", "emoji by an artist never trained on", {"train": (0.5, 0.7), "test": (0.45, 0.65)}),
    ):
        for side, things in (("train", "things trained on"), ("test", "things never seen")):
            drawn = [ATLAS / "heldout" / artist / f"{thing}.png" for thing in read_splits()[kind][side]]
            queries.append((f"{name}, {things}", [path for path in drawn if path.is_file()], musts[side]))
    return queries


def _alike() -> list[list[str]]:
    """Groups of documents whose flags are the same, or differ by a shade or by their proportions alone."""
    return [*read_splits()["identical"], ["country-td", "country-ro"], ["country-id", "country-mc"]]


async def _descriptions(local: Local, one_in: int) -> list[Row]:
    trials = description_trials()[::one_in]
    found = await search(local.pipeline, trials, "descriptions")
    name = "text → emoji picture, unseen descriptions, Recall@5"
    return [Row(name, recall(trials, found), len(trials), at_least=0.7)]


async def _invented(local: Local, one_in: int) -> list[Row]:
    async with with_invented(local, max(4, NUM_INVENTED // one_in)) as countries:
        named = [trial for country in countries for trial in country.named]
        shown = [trial for country in countries for trial in country.shown]
        by_name = await ask(local.pipeline, named, "invented, by name")
        by_flag = await ask(local.pipeline, shown, "invented, by flag")
    return [
        Row("invented countries, by name", matches(named, by_name), len(named), at_least=0.95),
        Row("invented countries, by flag (photographed)", matches(shown, by_flag), len(shown), at_least=0.9),
    ]


async def _by_number_of_passages(local: Local, trials: list[Trial]) -> list[Row]:
    rows = []
    for top_k in (1, 3, 5, 10):
        answers = await ask(local.pipeline, with_top_k(trials, top_k), f"K = {top_k}")
        rows.append(Row(f"reported: both kinds of question, K = {top_k}", matches(trials, answers), len(trials)))
    return rows


async def _without_images(local: Local, config: AppConfig, named: list[Trial], shown: list[Trial]) -> list[Row]:
    """The knowledge base as if it had no pictures: neither found by them, nor shown to the decoder."""
    pipeline = local.pipeline_with(knowledge=_NoImages(config))
    rows = []
    for form, trials in (("by name", named), ("by flag", shown)):
        for images, over in (("on", local.pipeline), ("off", pipeline)):
            answers = await ask(over, trials, f"retrieved images {images}, {form}")
            rows.append(Row(f"reported: {form}, retrieved images {images}", matches(trials, answers), len(trials)))
    return rows


class _NoKnowledge:
    """Retrieval switched off."""

    async def search(self, requests: list[SearchRequest]) -> list[Evidence]:
        return [Evidence() for _ in requests]


class _NoImages:
    """Retrieval without the branches that look at pictures, whose passages come without theirs."""

    def __init__(self, config: AppConfig):
        weights = config.retriever.weights.model_copy(update={"text_image": 0.0, "image_image": 0.0})
        retriever = config.retriever.model_copy(update={"weights": weights})
        self._knowledge = KnowledgeBase(config.model_copy(update={"retriever": retriever}))

    async def search(self, requests: list[SearchRequest]) -> list[Evidence]:
        found = await self._knowledge.search(requests)
        return [Evidence(map(_without_image, passages), passages.degraded) for passages in found]


def _without_image(passage: Passage) -> Passage:
    measured = {name: value for name, value in passage.similarities.items() if not name.endswith("_image")}
    return replace(passage, image_embedding=None, similarities=measured)
