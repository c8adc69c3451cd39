import math
import re
import sqlite3

import numpy as np
import pytest

from mmrag.errors import ConfigurationError, InvalidRequest, NotFound, Unavailable
from mmrag.retrieval.sqlite import SqliteStore
from mmrag.retrieval.sqlite.database import Database
from mmrag.types import Document, EncodedDocument, SearchRequest
from tests.retrieval.knowledge import encode, random_document, unit


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "knowledge.sqlite")
    yield store
    store.close()


def _brute_force(documents: list[EncodedDocument], query: np.ndarray, target: str) -> list[tuple[tuple, float]]:
    scored = []
    for encoded in documents:
        if target == "text":
            rows = [(i, passage.embedding) for i, passage in enumerate(encoded.passages)]
        else:
            rows = [(None, image.embedding) for image in encoded.images]
        scored += [((encoded.document.id, position), float(query @ vector)) for position, vector in rows]
    return sorted(scored, key=lambda pair: -pair[1])


def _assert_same(found, expected, count):
    assert len(found) == min(count, len(expected))
    assert [score for _, score in found] == pytest.approx([score for _, score in expected[:count]], abs=1e-6)
    assert sorted(key for key, _ in found) == sorted(key for key, _ in expected[:count])


@pytest.mark.parametrize("filters", [{}, {"parity": 1}, {"tags": ["t0", "u3"]}, {"parity": 0.0, "tags": "t1"}])
def test_exact_neighbours_equal_brute_force_after_random_writes(store, filters):
    random = np.random.default_rng(0)
    kept: dict[str, dict[str, EncodedDocument]] = {"ours": {}, "theirs": {}}
    request = {}
    for step in range(12):
        for tenant, documents in kept.items():
            batch = [random_document(random, int(number)) for number in random.choice(80, 12, replace=False)]
            store.upsert(tenant, batch)
            documents.update({encoded.document.id: encoded for encoded in batch})
            for document_id in random.choice(sorted(documents), 3, replace=False):
                store.delete(tenant, document_id)
                del documents[document_id]
        request = {
            tenant: SearchRequest(
                text_embedding=unit(random), image_embedding=unit(random), filters=filters, tenant=tenant
            )
            for tenant in kept
        }
        count = 5 + 10 * step
        for tenant, found in zip(kept, store.candidates(list(request.values()), count), strict=True):
            visible = [encoded for encoded in kept[tenant].values() if _passes(encoded.document, filters)]
            for branch in ("text_text", "text_image", "image_image", "image_text"):
                source, target = branch.split("_")
                query = getattr(request[tenant], f"{source}_embedding")
                _assert_same(found[branch], _brute_force(visible, query, target), count)


def _passes(document: Document, filters: dict) -> bool:
    return all(
        bool(set(np.atleast_1d(document.metadata[name])) & set(np.atleast_1d(wanted)))
        for name, wanted in filters.items()
    )


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


def test_a_word_in_the_title_weighs_more(store):
    store.upsert("t", [encode(Document(id="neighbour", title="Chile", text="It borders Peru and one more country."))])
    store.upsert("t", [encode(Document(id="peru", title="Peru", text="Its capital is Lima, a city by the sea."))])
    store.upsert("t", [encode(Document(id=f"other {i}", title="Mali", text="Its capital.")) for i in range(9)])
    (found,) = store.candidates([SearchRequest(text="what is the capital of PERÚ?", tenant="t")], 10)
    assert found["bm25"][0][0] == ("peru", 0)


@pytest.mark.parametrize(
    "text",
    ['"', "NOT apple", "apple AND", "title:apple", "apple*", "NEAR(apple bread)", "a\x00b", "'; DROP TABLE documents",
     "{title} : x", "^apple", "_", "\ud800 apple", "☃" * 5_000, "(" * 2_000, "%", "苹果 и Äpfel",
     " ".join(f"w{i}" for i in range(2_000))],
)  # fmt: skip
def test_a_query_is_words_and_never_syntax(store, text):
    store.upsert("t", [encode(Document(id="a", text="an apple", labels=["fruit"]))])
    (found,) = store.candidates([SearchRequest(text=text, tenant="t")], 5)
    assert len(found["bm25"]) == (1 if re.search(r"\bapple\b", text) else 0)
    assert store.count("t") == 1


@pytest.mark.parametrize(
    ("text", "labels", "found_ids"),
    [
        ("Where do I find an ICE cream?", [], ["a", "b"]),
        ("nice creams", [], []),
        ("what is it", ["ice cream"], ["a", "b"]),
        ("dessert or ice cream", [], ["b", "a"]),
        ("what does 🍨 mean", [], ["b"]),
    ],
)
def test_labels_match_as_whole_words(store, text, labels, found_ids):
    store.upsert("t", [encode(Document(id="a", title="y", labels=["Ice  Cream", "food"]))])
    store.upsert("t", [encode(Document(id="b", title="x", labels=["ice cream", "dessert", "🍨"]))])
    (found,) = store.candidates([SearchRequest(text=text, labels=labels, tenant="t")], 5)
    assert [key[0] for key, _ in found["label"]] == found_ids


def test_a_label_that_does_not_tell_documents_apart_finds_none(store):
    store.upsert("t", [encode(Document(id=str(i), title="x", labels=["country"])) for i in range(6)])
    store.upsert("t", [encode(Document(id="rare", title="x", labels=["island"]))])
    (found,) = store.candidates([SearchRequest(text="an island country", tenant="t")], 5)
    assert found["label"] == [(("rare", None), 1.0)]


def test_a_document_comes_back_as_it_went_in(store):
    document = Document(
        id="a/b#c'%\u2028", title="T", text="x" * 10, images=[b"one", b"two", b"one"], labels=["L", "ß"],
        metadata={"n": 1, "f": 1.5, "b": True, "l": ["x", "y"], "s": "1"},
    )  # fmt: skip
    store.upsert("t", [encode(document, images=[unit(np.random.default_rng(0))] * 3)])
    assert store.get("t", document.id) == document
    image = encode(document, images=[unit(np.random.default_rng(0))] * 3).images[1].image
    assert store.image("t", image.id) == image


def test_what_is_deleted_is_gone_from_everywhere(store):
    random = np.random.default_rng(0)
    vector = unit(random)
    encoded = encode(Document(id="a", title="apple", text="x", labels=["fruit"]), [("x", vector)], [vector])
    store.upsert("t", [encoded])
    request = SearchRequest(text="apple fruit", text_embedding=vector, image_embedding=vector, tenant="t")
    assert all(len(found) == 1 for found in store.candidates([request], 5)[0].values())
    store.delete("t", "a")
    assert not any(store.candidates([request], 5)[0].values())
    assert store.passages([request], [[("a", 0), ("a", None)]]) == [[]]
    with pytest.raises(NotFound, match="'a'"):
        store.get("t", "a")
    with pytest.raises(NotFound):
        store.image("t", encoded.images[0].image.id)
    with pytest.raises(NotFound):
        store.delete("t", "a")


def test_an_image_stays_while_another_document_shows_it(store):
    vector = unit(np.random.default_rng(0))
    encoded = [encode(Document(id=name, images=[b"shared"]), images=[vector]) for name in "ab"]
    store.upsert("t", encoded)
    store.delete("t", "a")
    assert store.image("t", encoded[1].images[0].image.id).content == b"shared"
    assert store.candidates([SearchRequest(image_embedding=vector, tenant="t")], 5)[0]["image_image"] == [
        (("b", None), pytest.approx(1.0, abs=1e-2))
    ]


def test_a_tenant_neither_sees_nor_influences_another(store):
    random = np.random.default_rng(0)
    ours = [random_document(random, number) for number in range(10)]
    request = SearchRequest(text="apple figs", text_embedding=unit(random), image_embedding=unit(random), tenant="ours")
    store.upsert("ours", ours)
    before = store.candidates([request], 50)
    theirs = [random_document(random, number) for number in range(40)]
    store.upsert("theirs", theirs)
    assert store.candidates([request], 50) == before
    assert store.passages([request], [[("doc-30", 0), ("doc-30", None)]]) == [[]]
    with pytest.raises(NotFound):
        store.get("ours", "doc-30")
    with pytest.raises(NotFound):
        store.delete("ours", "doc-30")
    picture = next(encoded.images[0].image.id for encoded in theirs[10:] if encoded.images)
    with pytest.raises(NotFound):
        store.image("ours", picture)
    assert store.image("theirs", picture)
    assert store.candidates([SearchRequest(text="apple", tenant="nobody")], 5) == [{}]


@pytest.mark.parametrize("filters", [{"": 1}, {"x" * 600: 1}, {"parity": None}, {"parity": {"$ne": 1}}, {"a": [[1]]}])
def test_a_filter_that_cannot_be_is_refused(store, filters):
    store.upsert("t", [random_document(np.random.default_rng(0), 1)])
    with pytest.raises(InvalidRequest) as error:
        store.candidates([SearchRequest(text="apple", filters=filters, tenant="t")], 5)
    assert error.value.param.startswith("filters")


@pytest.mark.parametrize(
    ("filters", "matches"),
    [({"n": 1}, 1), ({"n": 1.0}, 1), ({"n": True}, 0), ({"n": "1"}, 0), ({"b": True}, 1), ({"b": 1}, 0),
     ({"l": "x"}, 1), ({"l": ["z", "y"]}, 1), ({"l": []}, 0), ({"s": "a%"}, 0), ({"missing": 1}, 0),
     ({"s": "a' OR 1=1 --"}, 0), ({"n": 1, "s": "b"}, 0), ({"n": [1, 2], "s": "abc"}, 1)],
)  # fmt: skip
def test_filters_act_in_every_branch(store, filters, matches):
    vector = unit(np.random.default_rng(0))
    metadata = {"n": 1, "b": True, "l": ["x", "y"], "s": "abc"}
    document = Document(id="a", title="apple", text="x", labels=["fruit"], metadata=metadata)
    store.upsert("t", [encode(document, [("x", vector)], [vector])])
    request = SearchRequest(
        text="apple fruit", text_embedding=vector, image_embedding=vector, filters=filters, tenant="t"
    )
    (found,) = store.candidates([request], 5)
    assert len(found) == 6
    assert all(len(scored) == matches for scored in found.values())


def test_a_batch_is_written_wholly_or_not_at_all(store):
    random = np.random.default_rng(0)
    store.upsert("t", [random_document(random, 1)])
    before = store.get("t", "doc-1")
    broken = random_document(random, 3)
    broken.images = [None]
    with pytest.raises(AttributeError):
        store.upsert("t", [random_document(random, 1), random_document(random, 2), broken])
    assert (store.count("t"), store.get("t", "doc-1")) == (1, before)
    (found,) = store.candidates([SearchRequest(text_embedding=unit(random), tenant="t")], 50)
    assert {key[0] for key, _ in found["text_text"]} == {"doc-1"}


def test_embeddings_of_other_models_are_refused(tmp_path):
    path, random = tmp_path / "k.sqlite", np.random.default_rng(0)
    first = SqliteStore(path, "model-a")
    SqliteStore(path, "model-b").close()
    first.upsert("t", [random_document(random, 1)])
    with pytest.raises(ConfigurationError, match=r"model-a, now model-b.*retriever\.path"):
        SqliteStore(path, "model-b")
    wide = encode(Document(id="w", text="x"), [("x", unit(random, 32))])
    with pytest.raises(ConfigurationError, match="dimension 16, now 32"):
        first.upsert("t", [wide])
    with pytest.raises(ConfigurationError, match="32 dimensions"):
        first.candidates([SearchRequest(text_embedding=unit(random, 32), tenant="t")], 5)
    first.delete("t", "doc-1")
    first.upsert("t", [wide])
    (found,) = first.candidates([SearchRequest(text_embedding=unit(random, 32), tenant="t")], 5)
    assert len(found["text_text"]) == 1
    first.close()


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
    _assert_same(found["text_text"], _brute_force(newest, request.text_embedding, "text"), 200)


@pytest.mark.parametrize("wanted", ["a", "b"])
def test_words_are_filtered_document_by_document(store, wanted):
    for name in ("a", "b"):
        store.upsert("t", [encode(Document(id=name, text="red apple", metadata={"name": name}))])
    (found,) = store.candidates([SearchRequest(text="red apple", filters={"name": wanted}, tenant="t")], 10)
    assert [key for key, _ in found["bm25"]] == [(wanted, 0)]


def test_a_store_that_cannot_be_reached_does_not_tell_callers_where_it_lies(tmp_path, caplog):
    database = Database(tmp_path / "folder" / "knowledge.sqlite")
    (tmp_path / "folder").rename(tmp_path / "elsewhere")
    with pytest.raises(Unavailable) as error, database.read():
        pass
    assert "folder" not in str(error.value)
    assert str(database.path) in caplog.text
