"""Elasticsearch in trouble: bounded retries, then a circuit breaker; answers without what is missing, and saying so."""

import asyncio
import time

import numpy as np
import pytest

from mmrag.config import RetrieverConfig
from mmrag.errors import Unavailable
from mmrag.retrieval import Retriever
from mmrag.retrieval.elasticsearch import ElasticsearchStore
from mmrag.retrieval.elasticsearch.connection import FAILURES_TO_OPEN, OPEN_S
from mmrag.retrieval.store import Candidates
from mmrag.types import EncodedPassage, SearchRequest
from tests.retrieval.knowledge import random_document, unit
from tests.unreliable_proxy import unreliable_proxy

pytestmark = pytest.mark.elasticsearch

TIMEOUT_S = 0.5


@pytest.fixture
async def proxy(elasticsearch):
    async with unreliable_proxy(elasticsearch.urls[0]) as proxy:
        yield proxy


@pytest.fixture
async def open_retriever(proxy, elasticsearch_config):
    """Opens retrievers over ten documents."""
    stores = []

    async def open_one(timeout_s: float = 30.0, requires_evidence: bool = False) -> Retriever:
        settings = elasticsearch_config.model_copy(update={"urls": [proxy.url], "timeout_s": timeout_s})
        # In a thread: it asks at once, and the proxy runs in this event loop.
        stores.append(await asyncio.to_thread(ElasticsearchStore, settings))
        await stores[-1].versions.current()
        return Retriever(stores[-1], RetrieverConfig(kind="elasticsearch", requires_evidence=requires_evidence))

    retriever = await open_one()
    random = np.random.default_rng(0)
    await retriever.store.upsert("t", [random_document(random, number) for number in range(10)])
    yield open_one
    for store in stores:
        await store.close()


def _request(**more) -> SearchRequest:
    vector = unit(np.random.default_rng(1))
    return SearchRequest(text="apple figs", text_embedding=vector, tenant="t", **more)


async def _works_again(retriever) -> bool:
    for _ in range(100):
        try:
            [found] = await retriever.search([_request()])
        except Unavailable:
            await asyncio.sleep(0.1)
            continue
        if not found.degraded:
            return len(found) == 5
    return False


@pytest.mark.parametrize("trouble", ["silent", "half", 429, 503, "refused"])
async def test_trouble_is_told_in_time_and_is_over_when_it_is_over(open_retriever, proxy, trouble):
    retriever = await open_retriever(TIMEOUT_S)
    proxy.trouble = trouble
    if trouble == "refused":
        await proxy.stop()
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(Unavailable, match="does not answer") as error:
            await retriever.search([_request()])
        assert "127.0.0.1" not in str(error.value)
    num_troubled = proxy.num_troubled
    with pytest.raises(Unavailable, match="not asked again for a moment"):
        await retriever.search([_request()])
    assert proxy.num_troubled == num_troubled
    assert trouble == "refused" or FAILURES_TO_OPEN <= num_troubled <= 3 * FAILURES_TO_OPEN
    proxy.trouble = None
    if trouble == "refused":
        await proxy.start()
    await asyncio.sleep(OPEN_S)
    assert await _works_again(retriever)


@pytest.mark.parametrize("trouble", ["half", 429, 503])
async def test_what_passes_quickly_is_not_noticed(open_retriever, proxy, trouble):
    retriever = await open_retriever()
    proxy.trouble, proxy.num_left = trouble, 2
    [found] = await retriever.search([_request()])
    assert len(found) == 5 and not found.degraded
    assert proxy.num_troubled == 2


@pytest.mark.parametrize("where", ["_msearch", "_mget"])
async def test_nobody_waits_beyond_a_deadline(open_retriever, proxy, where):
    retriever = await open_retriever(600.0)
    proxy.trouble, proxy.where = "silent", where
    with pytest.raises(Unavailable):
        await asyncio.wait_for(retriever.search([_request(deadline_s=time.time() + 1.0)]), 60)


async def test_one_who_is_late_takes_nothing_from_the_others(open_retriever):
    retriever = await open_retriever()
    late, other = _request(deadline_s=time.time() - 1.0), _request(deadline_s=time.time() + 30.0)
    assert [len(found) for found in await retriever.search([late, other])] == [5, 5]


async def test_silence_towards_those_in_a_hurry_is_no_reason_to_ask_no_more(open_retriever, proxy):
    retriever = await open_retriever()
    proxy.trouble, proxy.num_left = "silent", FAILURES_TO_OPEN
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(Unavailable):
            await retriever.search([_request(deadline_s=time.time() + 0.1)])
    assert len((await retriever.search([_request()]))[0]) == 5


async def test_evidence_comes_without_the_fields_to_filter_on_where_they_are_not_told(open_retriever, proxy):
    retriever = await open_retriever(TIMEOUT_S)
    proxy.trouble, proxy.where = 503, "/_search"
    plain, filtered = await retriever.search([_request(), _request(filters={"size": 3})])
    assert (len(plain), list(filtered), filtered.metadata_fields) == (5, [], [])


async def test_reading_passages_takes_no_longer_than_the_time_for_it_however_many_steps_it_has(
    open_retriever, monkeypatch
):
    store, random = (await open_retriever()).store, np.random.default_rng(2)
    document = random_document(random, 99)
    document.passages[:] = [EncodedPassage(f"part {i}", 7 * i, 7 * i + 6, unit(random)) for i in range(3)]
    await store.upsert("u", [document])
    call, budgets_s = store._connection.call, []

    async def slow(method, path, body=None, params=None, budget_s=None):
        budgets_s.append(budget_s)
        await asyncio.sleep(0.1)
        return await call(method, path, body, params, budget_s)

    monkeypatch.setattr(store._connection, "call", slow)
    # The last passage fits best: the document is read, then where the best place is, then that.
    request = SearchRequest(text_embedding=document.passages[2].embedding, tenant="u", deadline_s=time.time() + 20.0)
    [[passage]] = await store.passages([request], [[("doc-99", None)]], [Candidates()])
    assert passage.id == "doc-99#2"
    assert len(budgets_s) == 3 and budgets_s[2] <= budgets_s[1] - 0.1 <= budgets_s[0] - 0.2 <= 9.8


def _without_first(status: int):
    def change(content: dict) -> dict:
        error = {"type": "search_phase_execution_exception", "reason": "all shards failed"}
        content["responses"][0] = {"error": error, "status": status}
        return content

    return change


def _with_failed_shards(content: dict) -> dict:
    content["responses"][0]["_shards"] = {"total": 3, "failed": 1}
    return content


@pytest.mark.parametrize("trouble", [_without_first(500), _without_first(503), _with_failed_shards])
async def test_a_branch_that_does_not_answer_is_named(open_retriever, proxy, trouble):
    retriever = await open_retriever()
    proxy.trouble, proxy.where = trouble, "_msearch"
    [found] = await retriever.search([_request()])
    assert len(found) == 5
    assert found.degraded == ["bm25: this branch of the search does not answer"]
    has_bm25 = any("bm25" in passage.branches for passage in found)
    assert has_bm25 == (trouble is _with_failed_shards)
    needy = await open_retriever(requires_evidence=True)
    with pytest.raises(Unavailable):
        await needy.search([_request()])


async def test_an_item_that_fails_once_is_asked_again(open_retriever, proxy):
    retriever = await open_retriever()
    proxy.trouble, proxy.where, proxy.num_left = _without_first(429), "_msearch", 1
    [found] = await retriever.search([_request()])
    assert not found.degraded and any("bm25" in passage.branches for passage in found)


async def test_what_the_other_branches_found_is_kept_when_asking_one_again_fails(open_retriever, proxy):
    retriever = await open_retriever(TIMEOUT_S)

    def fail_from_now_on(content: dict) -> dict:
        proxy.trouble = 503
        return _without_first(429)(content)

    proxy.trouble, proxy.where = fail_from_now_on, "_msearch"
    [found] = await retriever.search([_request()])
    assert len(found) == 5
    assert found.degraded == ["bm25: this branch of the search does not answer"]
    assert proxy.num_troubled > 1


def _all_items_busy(content: dict) -> dict:
    for item in content["items"][::2]:
        [result] = item.values()
        result.update(status=429, error={"type": "es_rejected_execution_exception", "reason": "queue full"})
    return content


@pytest.mark.parametrize("trouble", [429, "half", _all_items_busy])
async def test_a_load_waits_until_the_index_takes_more(open_retriever, proxy, trouble):
    random = np.random.default_rng(3)
    store = (await open_retriever()).store
    proxy.trouble, proxy.where, proxy.num_left = trouble, "_bulk", 5
    report = await store.load("u", (random_document(random, number) for number in range(700)))
    assert (report.num_upserted, report.refused) == (700, [])
    assert proxy.num_troubled == 5
    assert await store.count("u") == 700


async def test_a_store_can_be_opened_while_elasticsearch_is_away(elasticsearch_config, proxy, caplog):
    await proxy.stop()
    store = ElasticsearchStore(elasticsearch_config.model_copy(update={"urls": [proxy.url], "timeout_s": TIMEOUT_S}))
    assert "does not answer" in caplog.text
    with pytest.raises(Unavailable):
        await store.count("t")
    await proxy.start()
    await asyncio.sleep(OPEN_S)
    assert await store.count("t") == 0
    await store.close()
