"""Both stores, each empty: what holds for one holds for the other."""

import itertools

import pytest

from mmrag.config import ElasticsearchConfig, RetrieverConfig
from mmrag.retrieval import open_store
from mmrag.retrieval.elasticsearch import ElasticsearchStore

_numbers = itertools.count()


@pytest.fixture
def elasticsearch_config(elasticsearch, tmp_path) -> ElasticsearchConfig:
    """An index of its own in the one server: exact, and quick to show what was written."""
    name = f"test{next(_numbers)}"
    yield ElasticsearchConfig(
        urls=elasticsearch.urls, index=name, images_path=str(tmp_path / "images"), vector_index="flat", num_replicas=0,
        timeout_s=20.0,
    )  # fmt: skip
    for found in elasticsearch.call("GET", f"/{name}-v*"):
        elasticsearch.call("DELETE", f"/{found}")


@pytest.fixture(params=["sqlite", pytest.param("elasticsearch", marks=pytest.mark.elasticsearch)])
def config(request, tmp_path) -> RetrieverConfig:
    if request.param == "sqlite":
        return RetrieverConfig(path=str(tmp_path / "knowledge.sqlite"))
    settings = request.getfixturevalue("elasticsearch_config")
    return RetrieverConfig(kind="elasticsearch", elasticsearch=settings)


@pytest.fixture
async def store(config):
    store = open_store(config)
    yield store
    await store.close()


@pytest.fixture
async def opened(elasticsearch_config):
    """Opens stores, and closes them at the end."""
    stores = []

    def open_one(**changes) -> ElasticsearchStore:
        stores.append(ElasticsearchStore(elasticsearch_config.model_copy(update=changes)))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()
