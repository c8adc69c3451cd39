"""What only Elasticsearch does: kinds of vector index, scopes of its queries, resumed loads."""

import asyncio
import json
import multiprocessing
import os
import signal

import numpy as np
import pytest

from mmrag.config import ElasticsearchConfig
from mmrag.errors import ConfigurationError
from mmrag.retrieval import Retriever
from mmrag.retrieval.elasticsearch import ElasticsearchStore
from mmrag.retrieval.elasticsearch.branches import branches_of
from mmrag.types import Document, EncodedDocument, SearchRequest
from tests.retrieval.knowledge import encode, unit

_SPAWN = multiprocessing.get_context("spawn")


def test_the_scope_is_in_every_branch():
    vector = unit(np.random.default_rng(0))
    request = SearchRequest("an apple", vector, vector, ["fruit"], filters={"colour": ["red", 1]}, tenant="ours")
    branches = branches_of(request, ElasticsearchConfig(), True, 10, 1_000)
    scope = [{"term": {"tenant": "ours"}}, {"terms": {"metadata.colour": ['"red"', "1"]}}]
    places = {
        "bm25": lambda body: body["query"]["bool"]["filter"],
        "label": lambda body: body["post_filter"]["bool"]["filter"],
    }
    assert {branch.name for branch in branches} == {
        "bm25", "label", "text_text", "text_image", "image_text", "image_image",
    }  # fmt: skip
    for branch in branches:
        assert places.get(branch.name, lambda body: body["knn"]["filter"])(branch.body) == scope
        assert "knn" not in branch.body or "query" not in branch.body
    [labels] = [branch for branch in branches if branch.name == "label"]
    assert labels.body["query"]["bool"]["filter"] == scope[:1]


def test_an_address_is_needed(monkeypatch):
    monkeypatch.delenv("MMRAG_ELASTICSEARCH_URLS", raising=False)
    with pytest.raises(ConfigurationError, match=r"retriever\.elasticsearch\.urls, or \$MMRAG_ELASTICSEARCH_URLS"):
        ElasticsearchStore(ElasticsearchConfig())


@pytest.mark.elasticsearch
@pytest.mark.parametrize("kind", ["int8_hnsw", "hnsw", "int4_hnsw", "bbq_hnsw", "int8_flat", "bbq_flat"])
async def test_every_kind_of_vector_index_finds_what_is_near(opened, elasticsearch, kind):
    random = np.random.default_rng(0)
    store = opened(vector_index=kind)
    documents = [
        encode(Document(id=str(number), text="x"), [("x", unit(random, 64))], [unit(random, 64)])
        for number in range(60)
    ]
    await store.upsert("t", documents)
    for encoded in documents[:5]:
        wanted = encoded.passages[0].embedding
        request = SearchRequest(text_embedding=wanted, image_embedding=encoded.images[0].embedding, tenant="t")
        [found] = await store.candidates([request], 5)
        # Rescored: the cosine is that of the embedding, not of its compressed form.
        assert found["text_text"][0] == ((encoded.document.id, 0), pytest.approx(wanted @ wanted, abs=2e-3))
        assert found["image_image"][0][0] == (encoded.document.id, None)
    [mapping] = elasticsearch.call("GET", f"/{store.versions.alias}/_mapping").values()
    assert mapping["mappings"]["properties"]["text_vector"]["index_options"]["type"] == kind


@pytest.mark.elasticsearch
async def test_vectors_are_kept_once_for_searching_and_once_for_reading(opened, elasticsearch):
    store = opened()
    vector = unit(np.random.default_rng(0))
    await store.upsert("t", [encode(Document(id="a", title="Äpfel", text="red"), [("red", vector)], [vector])])
    [hit] = elasticsearch.call("POST", f"/{store.versions.alias}/_search")["hits"]["hits"]
    assert not {"text_vector", "image_vector", "words"} & set(hit["_source"])
    assert len(json.dumps(hit["_source"])) < 1_000


@pytest.mark.elasticsearch
async def test_what_is_found_again_is_read_again_only_when_it_has_changed(opened):
    store, vector = opened(), unit(np.random.default_rng(0))
    retriever, num_reads = Retriever(store), 0
    sources = store.searcher.sources

    async def counted(ids, *arguments, **named):
        nonlocal num_reads
        num_reads += bool(ids)
        return await sources(ids, *arguments, **named)

    store.searcher.sources = counted

    async def search() -> list[str]:
        [found] = await retriever.search([SearchRequest("red", vector, vector, tenant="t")])
        return [passage.text for passage in found]

    def told(text: str) -> EncodedDocument:
        return encode(Document(id="a", title="Apple", text=text), [(text, vector)], [vector])

    await store.upsert("t", [told("red")])
    num_reads = 0
    assert await search() == await search() == await search() == ["red"]
    assert num_reads == 1
    await store.upsert("t", [told("dark red")])
    assert await search() == await search() == ["dark red"]
    document = Document(id="a", title="Apple", text="red one. red two.")
    await store.upsert("t", [encode(document, [("red one.", vector), ("red two.", -vector)], [])])
    assert sorted(await search()) == ["red one.", "red two."]
    await store.delete("t", "a")
    assert await search() == []


@pytest.mark.elasticsearch
async def test_what_no_index_takes_is_reported_and_the_rest_is_loaded(opened):
    random = np.random.default_rng(0)
    store = opened()
    documents = [encode(Document(id=str(i), text="x"), [("x", unit(random))]) for i in range(30)]
    documents[7].passages[0].embedding = np.zeros(16, np.float32)  # has no direction
    report = await store.load("t", iter(documents))
    assert [refusal.document_id for refusal in report.refused] == ["7"]
    assert "magnitude" in report.refused[0].reason
    assert (report.num_upserted, await store.count("t")) == (29, 29)


def _documents(count: int):
    random = np.random.default_rng(0)
    for number in range(count):
        passages = [(f"part {part} ", unit(random)) for part in range(1 + number % 3)]
        text = "".join(part for part, _ in passages)
        images = [unit(random)] if number % 5 == 0 else []
        yield encode(Document(id=str(number), text=text), passages, images)


def _load(config: ElasticsearchConfig, count: int, num_loaded) -> None:
    async def work() -> None:
        def note(report) -> None:
            num_loaded.value = report.num_upserted

        await ElasticsearchStore(config).load("t", _documents(count), note)

    asyncio.run(work())


@pytest.mark.elasticsearch
async def test_a_load_that_was_killed_is_finished_by_another(opened, elasticsearch, elasticsearch_config):
    count, num_loaded = 4_000, _SPAWN.Value("i", 0)
    loader = _SPAWN.Process(target=_load, args=(elasticsearch_config, count, num_loaded))
    loader.start()
    while num_loaded.value < 1_000:
        assert loader.is_alive()
        await asyncio.sleep(0.02)
    os.kill(loader.pid, signal.SIGKILL)
    loader.join(30)
    store = opened()
    report = await store.load("t", _documents(count))
    assert report.num_upserted + report.num_unchanged == count
    assert 1_000 <= report.num_unchanged < count
    assert await store.count("t") == count
    records = elasticsearch.call("GET", f"/{store.versions.alias}/_count")["count"]
    assert records == sum(1 + number % 3 for number in range(count))
    [index] = elasticsearch.call("GET", f"/{store.versions.alias}/_settings").values()
    assert index["settings"]["index"]["refresh_interval"] == elasticsearch_config.refresh_interval
    again = await store.load("t", _documents(count))
    assert (again.num_upserted, again.num_unchanged) == (0, count)
