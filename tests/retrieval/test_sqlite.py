import math
import sqlite3

import numpy as np
import pytest

from mmrag.errors import ConfigurationError, Unavailable
from mmrag.retrieval.sqlite import SqliteStore
from mmrag.retrieval.sqlite.database import Database
from mmrag.types import Document, SearchRequest
from tests.retrieval.knowledge import assert_same, brute_force, encode, random_document, unit


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "knowledge.sqlite")
    yield store
    store.close()


def test_bm25_equals_the_formula(store):
    texts = ["red apple", "red red bread and butter", "green bread", "blue cheese with a crust", "figs"]
    store.upsert("t", [encode(Document(id=str(i), text=text)) for i, text in enumerate(texts)])
    (found,) = store.candidates([SearchRequest(text="red bread", tenant="t")], 10)

    def score(text: str) -> float:
        words, total = text.split(), 0.0
        average = sum(len(other.split()) for other in texts) / len(texts)
        for term in ("red", "bread"):
            frequency, holders = words.count(term), sum(term in other.split() for other in texts)
            idf = math.log((len(texts) - holders + 0.5) / (holders + 0.5))
            total += idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * len(words) / average))
        return total

    expected = {(str(i), 0): score(text) for i, text in enumerate(texts) if score(text)}
    assert dict(found["bm25"]) == pytest.approx(expected)


def test_what_a_tenant_writes_does_not_change_the_scores_of_another(store):
    random = np.random.default_rng(0)
    request = SearchRequest(text="apple figs", text_embedding=unit(random), image_embedding=unit(random), tenant="ours")
    store.upsert("ours", [random_document(random, number) for number in range(10)])
    before = store.candidates([request], 50)
    store.upsert("theirs", [random_document(random, number) for number in range(40)])
    assert store.candidates([request], 50) == before


def test_a_file_that_is_no_knowledge_base_is_refused(tmp_path):
    (tmp_path / "text").write_text("this is not a database at all " * 100)
    for path in (tmp_path / "text", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be opened"):
            SqliteStore(path)
    connection = sqlite3.connect(tmp_path / "newer")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigurationError, match="another version"):
        SqliteStore(tmp_path / "newer")


def test_memory_is_compacted_after_many_replacements(store):
    random = np.random.default_rng(0)
    request = SearchRequest(text_embedding=unit(random), tenant="t")
    for _ in range(60):
        newest = [random_document(random, number) for number in range(40)]
        store.upsert("t", newest)
        (found,) = store.candidates([request], 200)
    assert_same(found["text_text"], brute_force(newest, request.text_embedding, "text"), 200)


def test_a_store_that_cannot_be_reached_does_not_tell_callers_where_it_lies(tmp_path, caplog):
    database = Database(tmp_path / "folder" / "knowledge.sqlite")
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable) as error, database.read():
        pass
    assert "folder" not in str(error.value)
    assert str(database.path) in caplog.text


@pytest.mark.parametrize("limit, reason", [("max_page_count = 1", "disk is full"), ("query_only = 1", "readonly")])
def test_a_disk_that_takes_no_more_is_named_and_nothing_is_half_written(tmp_path, limit, reason):
    database = Database(tmp_path / "knowledge.sqlite")
    with database.read() as connection:
        connection.execute(f"PRAGMA {limit}")
    with pytest.raises(Unavailable, match=reason), database.write() as connection:
        connection.execute("INSERT INTO tenants (name) VALUES ('first')")
        connection.executemany("INSERT INTO tenants (name) VALUES (?)", [(f"{n}" * 2_000,) for n in range(1_000)])
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM tenants").fetchone()[0] == 0
