"""Putting trials to the system over the whole atlas, as `mmrag ask --local` does, and scoring what comes back."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from tqdm.asyncio import tqdm

from atlas.trials import ATLAS, InventedCountry, Trial, invented_countries
from mmrag.config import AppConfig
from mmrag.config_file import read_config
from mmrag.console import documents_with_progress
from mmrag.evaluation import exact_match, recall_at_k
from mmrag.local import Local
from mmrag.pipeline import Pipeline
from mmrag.retrieval.elasticsearch import ElasticsearchStore
from mmrag.types import DEFAULT_TENANT, Answer

MAX_CONCURRENT = 32
PATIENCE_S = 600.0
"""A busy machine makes an evaluation slow, not worse."""


@asynccontextmanager
async def whole_atlas(store: str = "sqlite") -> AsyncIterator[tuple[Local, AppConfig]]:
    """The system as configured, over a store of its own, of the kind `store`, that holds the whole atlas."""
    config = read_config(ATLAS.parent / "serve_config.yaml")
    with tempfile.TemporaryDirectory() as folder:
        own = {"index": f"eval_{os.getpid()}", "images_path": folder, "num_replicas": 0, "timeout_s": PATIENCE_S}
        changes = {
            "kind": store,
            "path": f"{folder}/atlas.sqlite",
            "elasticsearch": config.retriever.elasticsearch.model_copy(update=own),
        }
        retriever = config.retriever.model_copy(update=changes)
        limits = config.limits.model_copy(update={"timeout_s": PATIENCE_S})
        config = config.model_copy(update={"retriever": retriever, "limits": limits})
        local = Local(config)
        try:
            with documents_with_progress(ATLAS, config.limits) as documents:
                await local.ingest(documents)
            yield local, config
        finally:
            if store == "elasticsearch":
                await _delete_index(local.knowledge.store)


async def _delete_index(store: ElasticsearchStore) -> None:
    for version in await store.versions.all():
        await store.versions.delete(version.name)
    await store.close()


@asynccontextmanager
async def with_invented(local: Local, num: int) -> AsyncIterator[list[InventedCountry]]:
    """Invented countries that are in the knowledge base for so long."""
    countries = list(invented_countries(num))
    for country in countries:
        await local.pipeline.upsert(DEFAULT_TENANT, [country.document])
    try:
        yield countries
    finally:
        for country in countries:
            await local.pipeline.delete(DEFAULT_TENANT, country.document.id)


async def ask(pipeline: Pipeline, trials: list[Trial], name: str) -> list[Answer]:
    """The answer to each trial, with a progress bar called `name`."""
    return await _each(trials, name, lambda trial: pipeline.answer(replace(trial.query)))


async def search(pipeline: Pipeline, trials: list[Trial], name: str) -> list[Answer]:
    """The passages found for each trial."""
    return await _each(trials, name, lambda trial: pipeline.search(replace(trial.query)))


async def _each(trials: list[Trial], name: str, run: Callable[[Trial], Awaitable[Answer]]) -> list[Answer]:
    places = asyncio.Semaphore(MAX_CONCURRENT)

    async def at_its_turn(trial: Trial) -> Answer:
        async with places:
            return await run(trial)

    return await tqdm.gather(*map(at_its_turn, trials), desc=name, leave=False)


def matches(trials: list[Trial], answers: list[Answer]) -> float:
    """Share of exact matches."""
    return _mean(exact_match(answer.answer, trial.accepted) for trial, answer in zip(trials, answers, strict=True))


def recall(trials: list[Trial], answers: list[Answer], k: int = 5) -> float:
    """Share of the right documents among those of the first k passages."""
    found = ([passage.document_id for passage in answer.passages] for answer in answers)
    return _mean(recall_at_k(ids, trial.documents, k) for trial, ids in zip(trials, found, strict=True))


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
