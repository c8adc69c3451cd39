"""The next version of the index is built while the one before it serves."""

import asyncio
import contextlib

import numpy as np
import pytest
from elasticsearch import ApiError

from mmrag.config import RetrieverConfig
from mmrag.errors import ConfigurationError, Unavailable
from mmrag.retrieval import Retriever
from mmrag.retrieval.elasticsearch import ElasticsearchStore, holding
from mmrag.retrieval.elasticsearch.connection import Connection
from mmrag.retrieval.elasticsearch.holding import Holds, taking
from mmrag.retrieval.elasticsearch.reindex import Reindex
from mmrag.retrieval.elasticsearch.versions import Versions
from mmrag.types import Document, SearchRequest
from tests.retrieval.knowledge import encode, random_document, unit

pytestmark = pytest.mark.elasticsearch


async def _never(tenant, documents):
    raise AssertionError("embeddings of the same models are copied")


async def _copies(tenant: str, documents: list[Document]):
    """Encodes as other models would: in twice as many dimensions."""
    random = np.random.default_rng(7)
    return [
        encode(document, [(document.text, unit(random, 32))], [unit(random, 32) for _ in document.images])
        for document in documents
    ]


@contextlib.asynccontextmanager
async def _opened(config, fingerprint):
    store = ElasticsearchStore(config, fingerprint)
    yield store
    await store.close()


async def test_a_copy_finds_the_same(elasticsearch_config, elasticsearch):
    random = np.random.default_rng(0)
    config = elasticsearch_config.model_copy(update={"timeout_s": 5.0})
    async with _opened(config, "model-a") as store:
        for tenant in "tu":
            await store.upsert(tenant, [random_document(random, number) for number in range(20)])
        retriever = Retriever(store, RetrieverConfig(kind="elasticsearch", elasticsearch=config))
        request = SearchRequest(text="figs", text_embedding=unit(random), image_embedding=unit(random), tenant="t")
        [before] = await retriever.search([request])
        documents = [await store.get("u", f"doc-{number}") for number in range(20)]
        report = await Reindex(config.model_copy(update={"timeout_s": 2.0}), "model-a", _never).run()
        assert (report.version, report.num_copied, report.num_deleted) == (f"{config.index}-v2", 40, 0)
        [after] = await retriever.search([request])
        assert [(p.id, p.branches, p.text, p.similarities) for p in after] == [
            (p.id, p.branches, p.text, pytest.approx(p.similarities)) for p in before
        ]
        assert [await store.get("u", f"doc-{number}") for number in range(20)] == documents
        assert list(elasticsearch.call("GET", f"/{config.index}-v*")) == [f"{config.index}-v2"]


async def test_reads_never_fail_and_writes_are_not_lost_while_versions_are_swapped(elasticsearch_config):
    random = np.random.default_rng(0)
    config = elasticsearch_config
    done = asyncio.Event()
    written: set[str] = {f"doc-{number}" for number in range(60)}
    async with _opened(config, "model-a") as store, _opened(config, "model-a") as writer:
        await store.upsert("t", [random_document(random, number) for number in range(60)])

        async def read() -> int:
            num_reads = 0
            while not done.is_set():
                request = SearchRequest(text="apple", text_embedding=unit(random), tenant="t")
                [found] = await store.candidates([request], 200)
                assert len({key[0] for key, _ in found["text_text"]}) >= 50 and not found.degraded
                num_reads += 1
            return num_reads

        async def write() -> None:
            number = 100
            while not done.is_set():
                await writer.upsert("t", [random_document(random, number)])
                written.add(f"doc-{number}")
                await writer.delete("t", (gone := f"doc-{number - 100 if number < 110 else number - 5}"))
                written.discard(gone)
                number += 1

        working = [asyncio.create_task(work()) for work in (read, read, write)]
        try:
            await Reindex(config.model_copy(update={"timeout_s": 2.0}), "model-a", _never).run()
        finally:
            done.set()
            num_reads, _, _ = await asyncio.gather(*working)
        assert num_reads > 3
        [found] = await store.candidates([SearchRequest(text_embedding=unit(random), tenant="t")], 1_000)
        assert {key[0] for key, _ in found["text_text"]} == written
        assert await store.count("t") == len(written)


@pytest.mark.parametrize("num_steps", [1, 2])
@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_document_is_whole_where_versions_were_swapped_between_the_steps_of_writing_it(
    elasticsearch_config, elasticsearch, monkeypatch, num_steps, is_deleted
):
    random, config = np.random.default_rng(0), elasticsearch_config
    quick = config.model_copy(update={"timeout_s": 2.0})
    passages = [(f"part {number}. ", unit(random)) for number in range(3)]
    document = encode(Document(id="a", text="part 0. part 1. part 2. "), passages)
    async with _opened(config, "model-a") as store:
        await store.upsert("t", [encode(Document(id="b", text="x"), [("x", unit(random))])])
        if is_deleted:
            await store.upsert("t", [document])
        bulk, left = store.writer.bulk, iter(range(num_steps))

        async def swapped_meanwhile(index, operations):
            if next(left, None) is None:
                monkeypatch.setattr(store.writer, "bulk", bulk)
                await Reindex(quick, "model-a", _never).run()
            return await bulk(index, operations)

        monkeypatch.setattr(store.writer, "bulk", swapped_meanwhile)
        await (store.delete("t", "a") if is_deleted else store.upsert("t", [document]))
        assert (await store.versions.current()).name == f"{config.index}-v2"
        assert elasticsearch.call("GET", f"/{config.index}-v2/_count")["count"] == (1 if is_deleted else 4)
        assert is_deleted or await store.get("t", "a") == document.document


async def test_a_load_goes_on_where_versions_are_swapped(elasticsearch_config, elasticsearch):
    random, config = np.random.default_rng(0), elasticsearch_config.model_copy(update={"refresh_interval": "700ms"})
    async with _opened(config, "model-a") as store:
        await store.upsert("t", [random_document(random, 1)])
        async with store.loading():
            await store.upsert("t", [random_document(random, 2)])
            await Reindex(config.model_copy(update={"timeout_s": 2.0}), "model-a", _never).run()
            await store.upsert("t", [random_document(random, 3)])
        assert await store.count("t") == 3
        [(name, index)] = elasticsearch.call("GET", f"/{config.index}-v*/_settings").items()
        assert (name, index["settings"]["index"]["refresh_interval"]) == (f"{config.index}-v2", "700ms")


async def test_a_service_with_other_models_keeps_what_it_can_read(elasticsearch_config):
    random = np.random.default_rng(0)
    config = elasticsearch_config.model_copy(update={"write_timeout_s": 2.0})
    quick = config.model_copy(update={"timeout_s": 2.0, "write_timeout_s": 30.0})
    async with _opened(config, "model-a") as old:
        await old.upsert("t", [random_document(random, number) for number in range(10)])
        with pytest.raises(ConfigurationError, match="mmrag reindex"):
            ElasticsearchStore(config, "model-b")
        await Reindex(quick, "model-b", _copies).run()
        request = SearchRequest(text_embedding=unit(random), tenant="t")
        assert len((await old.candidates([request], 50))[0]["text_text"]) >= 10
        async with _opened(config, "model-b") as new:
            request = SearchRequest(text_embedding=unit(random, 32), image_embedding=unit(random, 32), tenant="t")
            [found] = await new.candidates([request], 50)
            assert {key[0] for key, _ in found["text_text"]} == {f"doc-{number}" for number in range(10)}
            assert await new.get("t", "doc-3") == await old.get("t", "doc-3")
            await new.upsert("t", [encode(Document(id="new", text="x"), [("x", unit(random, 32))])])
            assert await new.count("t") == 11
        with pytest.raises(Unavailable, match="embedded anew by other models"):  # at once: nobody will let go
            await asyncio.wait_for(old.upsert("t", [random_document(random, 11)]), 1.5)


async def test_a_reindex_that_was_killed_goes_on(elasticsearch_config):
    random = np.random.default_rng(0)
    config = elasticsearch_config
    quick = config.model_copy(update={"timeout_s": 2.0})
    batches: list[int] = []

    async def killed(tenant, documents):
        batches.append(len(documents))
        raise KeyboardInterrupt if len(batches) > 1 else asyncio.CancelledError

    async def counted(tenant, documents):
        batches.append(len(documents))
        return await _copies(tenant, documents)

    async with _opened(config, "model-a") as store:
        await store.upsert("t", [random_document(random, number) for number in range(10)])
        with pytest.raises(asyncio.CancelledError):
            await Reindex(quick, "model-b", killed).run()
        await store.upsert("t", [random_document(random, 50)])  # nothing is held back
        report = await Reindex(quick, "model-b", counted).run()
        assert report.version == f"{config.index}-v2"
        assert sum(batches[1:]) == 11


async def test_writes_that_a_dead_reindex_held_back_pass_after_a_while(elasticsearch_config, monkeypatch):
    random, config = np.random.default_rng(0), elasticsearch_config
    connection = Connection(config)
    holds, versions = Holds(connection, config), Versions(connection, config, "model-a")
    async with _opened(config, "model-a") as store:
        await store.upsert("t", [random_document(random, 1)])
        old = await versions.current()
        mark = await holds.hold(old.name)
        with pytest.raises(Unavailable, match="another reindex"):
            await holds.hold(old.name)
        held_back = asyncio.create_task(store.upsert("t", [random_document(random, 2)]))
        await asyncio.sleep(1.0)
        assert not held_back.done()
        monkeypatch.setattr(holding, "MAX_HOLD_S", 0.0)
        await held_back
        assert await store.count("t") == 2
        new = await versions.create(16, is_used=False)
        with pytest.raises(ApiError, match="alias"):  # it was not dead: too late, it has missed a write
            await versions.use(new.name, taking(old.name, mark))
        assert (await versions.current()).name == old.name
        monkeypatch.undo()
        report = await Reindex(config.model_copy(update={"timeout_s": 2.0}), "model-a", _never).run()
        assert (report.num_copied, await store.count("t")) == (2, 2)
    await connection.close()


async def test_writes_pass_where_somebody_died_while_letting_them(elasticsearch_config):
    random, config = np.random.default_rng(0), elasticsearch_config.model_copy(update={"write_timeout_s": 5.0})
    connection = Connection(config)
    holds, versions = Holds(connection, config), Versions(connection, config, "model-a")
    async with _opened(config, "model-a") as store:
        await store.upsert("t", [random_document(random, 1)])
        old = await versions.current()
        mark = await holds.hold(old.name)
        await holds._change_aliases(taking(old.name, mark))
        await store.upsert("t", [random_document(random, 2)])
        assert await store.count("t") == 2
    await connection.close()


async def test_there_must_be_something_to_build_from(elasticsearch_config):
    with pytest.raises(ConfigurationError, match="ingest something first"):
        await Reindex(elasticsearch_config, "model-a", _never).run()
