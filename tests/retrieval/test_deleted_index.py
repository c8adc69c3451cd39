"""The index is deleted while the service runs: there is nothing then, and what is written makes it anew."""

import numpy as np
import pytest

from mmrag.errors import NotFound
from mmrag.retrieval import Retriever
from mmrag.retrieval.store import Candidates
from mmrag.types import SearchRequest
from tests.retrieval.knowledge import DIMENSION, random_document, unit

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
async def store(opened, elasticsearch, elasticsearch_config):
    """One that remembers an index that was there."""
    store, random = opened(), np.random.default_rng(0)
    await store.upsert("t", [random_document(random, number) for number in range(3)])
    elasticsearch.call("DELETE", f"/{elasticsearch_config.index}-v1")
    return store


async def test_nothing_is_there(store):
    assert await store.count("t") == 0


async def test_no_picture_is_there(store):
    with pytest.raises(NotFound):
        await store.image("t", "0" * 64)


async def test_there_is_nothing_to_filter_on(store):
    assert await store.metadata_fields("t", ["parity"]) == []


async def test_no_passage_is_there(store):
    request = SearchRequest(text_embedding=unit(np.random.default_rng(0)), tenant="t")
    assert await store.passages([request], [[("doc-0", None)]], [Candidates()]) == [[]]


@pytest.mark.parametrize("num_passages", [1, 3])
async def test_what_is_written_makes_it_anew(opened, elasticsearch, elasticsearch_config, monkeypatch, num_passages):
    store, random = opened(), np.random.default_rng(0)
    await store.upsert("t", [random_document(random, number) for number in range(3)])
    put = store.pictures.put

    async def deleted_meanwhile(tenant, documents):
        elasticsearch.call("DELETE", f"/{elasticsearch_config.index}-v1")
        monkeypatch.setattr(store.pictures, "put", put)
        await put(tenant, documents)

    monkeypatch.setattr(store.pictures, "put", deleted_meanwhile)
    document = next(
        one for one in (random_document(random, number) for number in range(100)) if len(one.passages) == num_passages
    )
    await store.upsert("t", [document])
    assert await store.count("t") == 1
    [found] = await Retriever(store).search([SearchRequest(text_embedding=unit(random), tenant="t")])
    assert len(found) == num_passages


async def test_a_load_makes_it_anew(store):
    random = np.random.default_rng(0)
    async with store.loading():
        await store.upsert("t", [random_document(random, number) for number in range(4)])
    assert await store.count("t") == 4


async def test_embeddings_of_another_size_can_be_written_where_others_were(store, elasticsearch_config, opened):
    other, random = opened(), np.random.default_rng(1)
    wide = random_document(random, 1)
    for one in wide.passages:
        one.embedding = unit(random, 2 * DIMENSION)
    wide.images.clear()
    await other.upsert("t", [wide])  # makes the index anew
    await store.versions.writable(2 * DIMENSION)
    assert await store.count("t") == 1
