"""Writing that was cut off, or crossed by another's: nothing is taken for whole that is not."""

import numpy as np
import pytest

from mmrag.errors import Unavailable
from mmrag.retrieval import Retriever
from mmrag.retrieval.elasticsearch import ElasticsearchStore
from mmrag.types import Document, EncodedDocument, SearchRequest
from tests.retrieval.knowledge import encode, unit

pytestmark = pytest.mark.elasticsearch


def _document(word: str, num_passages: int) -> EncodedDocument:
    random = np.random.default_rng(num_passages)
    passages = [(f"{word} {number}. ", unit(random)) for number in range(num_passages)]
    return encode(Document(id="a", title=word, text="".join(text for text, _ in passages)), passages)


def _cut_off(store: ElasticsearchStore, num_steps: int):
    """The store's next write is cut off after so many steps."""
    bulk, left = store.writer.bulk, iter(range(num_steps))

    async def cut_off(index, operations):
        if next(left, None) is None:
            store.writer.bulk = bulk
            raise Unavailable("cut off")
        return await bulk(index, operations)

    store.writer.bulk = cut_off


def _num_records(elasticsearch, store: ElasticsearchStore) -> int:
    elasticsearch.call("POST", f"/{store.versions.alias}/_refresh")
    return elasticsearch.call("GET", f"/{store.versions.alias}/_count")["count"]


@pytest.mark.parametrize("num_steps", [1, 2])
@pytest.mark.parametrize(("before", "after"), [(3, 3), (3, 2), (3, 1), (1, 3)])
async def test_a_rewrite_that_was_cut_off_is_not_taken_for_up_to_date(opened, elasticsearch, before, after, num_steps):
    store = opened()
    original, edited = _document("apple", before), _document("bread", after)
    await store.upsert("t", [original])
    _cut_off(store, num_steps)
    with pytest.raises(Unavailable, match="cut off"):
        await store.upsert("t", [edited])
    assert (await store.content_hashes("t", ["a"]))["a"] not in (original.content_hash, edited.content_hash)
    report = await store.load("t", iter([original]))
    assert (report.num_upserted, report.num_unchanged) == (1, 0)
    assert await store.get("t", "a") == original.document
    assert _num_records(elasticsearch, store) == before


@pytest.mark.parametrize("num_steps", [1, 2])
async def test_a_delete_that_was_cut_off_is_not_taken_for_up_to_date(opened, elasticsearch, num_steps):
    store, original = opened(), _document("apple", 3)
    await store.upsert("t", [original])
    _cut_off(store, num_steps)
    with pytest.raises(Unavailable, match="cut off"):
        await store.delete("t", "a")
    assert (await store.load("t", iter([original]))).num_upserted == 1
    assert await store.get("t", "a") == original.document
    _cut_off(store, num_steps)
    with pytest.raises(Unavailable, match="cut off"):
        await store.delete("t", "a")
    await store.delete("t", "a")
    assert _num_records(elasticsearch, store) == 0


async def test_two_who_write_one_document_at_a_time_leave_no_text_of_one_under_the_title_of_the_other(opened):
    store, apple, bread = opened(), _document("apple", 3), _document("bread", 2)
    await store.versions.writable(16)
    for encoded in (apple, bread):  # neither has seen what the other wrote
        await store.writer.put(store.versions.alias, "t", [encoded], {}, True)
    [found] = await Retriever(store).search([SearchRequest("apple bread", apple.passages[2].embedding, tenant="t")])
    assert {(passage.title, passage.text) for passage in found} == {("bread", "bread 0. "), ("bread", "bread 1. ")}


async def test_what_is_found_of_a_later_record_is_not_taken_for_what_the_document_is(opened):
    store, apple, bread = opened(), _document("apple", 2), _document("bread", 1)
    await store.upsert("t", [apple])
    await store.writer.put(store.versions.alias, "t", [bread], {}, True)
    [found] = await store.candidates([SearchRequest("apple", tenant="t")], 5)
    assert [key for key, _ in found["bm25"]] == [("a", 1)]
    assert found.content_hashes == {}
