"""Records that were read lately are kept in bounded memory, and no longer than they are what they were."""

import numpy as np
import orjson
import pytest

from mmrag.errors import Unavailable
from mmrag.retrieval import Retriever
from mmrag.retrieval.elasticsearch.record_cache import RecordCache
from mmrag.types import Document, EncodedDocument, SearchRequest
from tests.retrieval.knowledge import encode, unit


def _record(text: str, num_records: int = 1) -> dict:
    return {"num_records": num_records, "content_hash": "h", "stored": {"text": text}}


def test_what_is_kept_is_bounded_by_its_bytes():
    num_bytes = len(orjson.dumps(_record("x" * 1_000)))
    cache = RecordCache(max_bytes=3 * num_bytes)
    cache.keep({str(number): _record("x" * 1_000) for number in range(5)})
    assert [number for number in range(5) if cache.get(str(number), "h")] == [2, 3, 4]
    cache.keep({"large": _record("x" * 1_500)})
    assert [number for number in range(5) if cache.get(str(number), "h")] == [4]
    cache.keep({"too large": _record("x" * 10_000)})
    assert cache.get("too large", "h") is None and cache.get("large", "h")


def test_what_was_kept_or_given_last_leaves_last():
    cache = RecordCache(max_bytes=3 * len(orjson.dumps(_record("x"))))
    cache.keep({name: _record("x") for name in "abc"})
    cache.keep({"a": _record("x")})
    cache.get("b", "h")
    cache.keep({name: _record("x") for name in "de"})
    assert [name for name in "abcde" if cache.get(name, "h")] == ["b", "d", "e"]


def test_what_has_become_several_records_or_was_dropped_is_not_given():
    cache = RecordCache()
    cache.keep({name: _record("x") for name in "abc"})
    cache.keep({"a": _record("x", num_records=2)})
    cache.drop(["b", "unknown"])
    assert [name for name in "abc" if cache.get(name, "h")] == ["c"]
    cache.clear()
    assert cache.get("c", "h") is None


def _told(text: str) -> EncodedDocument:
    vector = unit(np.random.default_rng(0))
    return encode(Document(id="a", title="Apple", text=text), [(text, vector)])


@pytest.mark.elasticsearch
async def test_what_was_written_but_did_not_become_searchable_is_read_anew(opened):
    store, vector = opened(refresh_interval="-1"), unit(np.random.default_rng(0))
    request = SearchRequest("red", vector, tenant="t")

    async def search() -> list[str]:
        return [passage.text for passage in (await Retriever(store).search([request]))[0]]

    async def fails(index):
        raise Unavailable("refresh")

    await store.upsert("t", [_told("red")])
    assert await search() == ["red"]
    store.writer.refresh = fails
    with pytest.raises(Unavailable, match="refresh"):
        await store.upsert("t", [_told("dark red")])
    assert await search() == ["dark red"]
    with pytest.raises(Unavailable, match="refresh"):
        await store.delete("t", "a")
    assert await search() == []


@pytest.mark.elasticsearch
async def test_nothing_is_kept_beyond_the_version_it_was_read_from(opened, elasticsearch, elasticsearch_config):
    store, other, vector = opened(), opened(), unit(np.random.default_rng(0))
    await store.upsert("t", [_told("red")])
    await Retriever(store).search([SearchRequest("red", vector, tenant="t")])
    elasticsearch.call("DELETE", f"/{elasticsearch_config.index}-v1")
    assert await store.count("t") == 0
    told = _told("red")
    told.passages[0].embedding = -vector  # by other models: the same content, and not the same record
    await other.upsert("t", [told])
    [found] = await Retriever(store).search([SearchRequest("red", vector, tenant="t")])
    np.testing.assert_array_equal(found[0].text_embedding, -vector)
