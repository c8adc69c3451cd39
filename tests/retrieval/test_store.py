"""What every store does: the same tests for the embedded one and for Elasticsearch."""

import re

import numpy as np
import pytest

from mmrag.errors import ConfigurationError, InvalidRequest, NotFound
from mmrag.retrieval import open_store
from mmrag.retrieval.store import MAX_FIELDS, Candidates
from mmrag.types import Document, EncodedDocument, SearchRequest
from tests.retrieval.knowledge import assert_same, brute_force, encode, random_document, unit


@pytest.mark.parametrize("filters", [{}, {"parity": 1}, {"tags": ["t0", "u3"]}, {"parity": 0.0, "tags": "t1"}])
async def test_exact_neighbours_equal_brute_force_after_random_writes(store, config, filters):
    random = np.random.default_rng(0)
    num_steps = 12 if config.kind == "sqlite" else 3
    kept: dict[str, dict[str, EncodedDocument]] = {"ours": {}, "theirs": {}}
    request = {}
    for step in range(num_steps):
        for tenant, documents in kept.items():
            batch = [random_document(random, int(number)) for number in random.choice(80, 12, replace=False)]
            await store.upsert(tenant, batch)
            documents.update({encoded.document.id: encoded for encoded in batch})
            for document_id in random.choice(sorted(documents), 3, replace=False):
                await store.delete(tenant, document_id)
                del documents[document_id]
        request = {
            tenant: SearchRequest(
                text_embedding=unit(random), image_embedding=unit(random), filters=filters, tenant=tenant
            )
            for tenant in kept
        }
        count = 5 + 30 * step
        for tenant, found in zip(kept, await store.candidates(list(request.values()), count), strict=True):
            visible = [encoded for encoded in kept[tenant].values() if _passes(encoded.document, filters)]
            for branch in ("text_text", "text_image", "image_image", "image_text"):
                source, target = branch.split("_")
                query = getattr(request[tenant], f"{source}_embedding")
                # In half precision lengths are 1 only so far; Elasticsearch divides by them.
                assert_same(found[branch], brute_force(visible, query, target), count, within=3e-4)


def _passes(document: Document, filters: dict) -> bool:
    return all(
        bool(set(np.atleast_1d(document.metadata[name])) & set(np.atleast_1d(wanted)))
        for name, wanted in filters.items()
    )


async def test_the_fields_to_filter_on_are_known(store):
    assert await store.metadata_fields("t", ["size"]) == []
    metadata = {"size": 3, "größe": "x", **{f"field {i:03}": i % 2 for i in range(50)}}
    await store.upsert("t", [encode(Document(id="a", text="x", metadata=metadata)), encode(Document(id="b", text="y"))])
    await store.upsert("u", [encode(Document(id="a", text="x", metadata={"theirs": True}))])
    assert await store.metadata_fields("t", ["size", "größe", "theirs", "none"]) == sorted(metadata)
    assert await store.metadata_fields("nobody", ["size"]) == []


async def test_of_very_many_fields_some_are_named(store):
    names = [f"field {i:03}" for i in range(2 * MAX_FIELDS)]
    for half in (names[::2], names[1::2]):
        await store.upsert("t", [encode(Document(id=half[0], text="x", metadata=dict.fromkeys(half, 1)))])
    assert await store.metadata_fields("t", [names[-1]]) == [*names[:MAX_FIELDS], names[-1]]


async def test_a_word_in_the_title_weighs_more(store):
    neighbour = Document(id="neighbour", title="Chile", text="It borders Peru and one more country.")
    await store.upsert("t", [encode(neighbour)])
    await store.upsert("t", [encode(Document(id="peru", title="Peru", text="Its capital is Lima, a city by the sea."))])
    await store.upsert("t", [encode(Document(id=f"other {i}", title="Mali", text="Its capital.")) for i in range(9)])
    (found,) = await store.candidates([SearchRequest(text="what is the capital of PERÚ?", tenant="t")], 10)
    assert found["bm25"][0][0] == ("peru", 0)


@pytest.mark.parametrize(
    "text",
    ['"', "NOT apple", "apple AND", "title:apple", "apple*", "NEAR(apple bread)", "a\x00b", "'; DROP TABLE documents",
     "{title} : x", "^apple", "_", "\ud800 apple", "☃" * 5_000, "(" * 2_000, "%", "苹果 и Äpfel",
     " ".join(f"w{i}" for i in range(2_000))],
)  # fmt: skip
async def test_a_query_is_words_and_never_syntax(store, text):
    await store.upsert("t", [encode(Document(id="a", text="an apple", labels=["fruit"]))])
    (found,) = await store.candidates([SearchRequest(text=text, tenant="t")], 5)
    assert len(found["bm25"]) == (1 if re.search(r"\bapple\b", text) else 0)
    assert await store.count("t") == 1


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
async def test_labels_match_as_whole_words(store, text, labels, found_ids):
    await store.upsert("t", [encode(Document(id="a", title="y", labels=["Ice  Cream", "food"]))])
    await store.upsert("t", [encode(Document(id="b", title="x", labels=["ice cream", "dessert", "🍨"]))])
    (found,) = await store.candidates([SearchRequest(text=text, labels=labels, tenant="t")], 5)
    assert [key[0] for key, _ in found["label"]] == found_ids


async def test_a_label_that_does_not_tell_documents_apart_finds_none(store):
    await store.upsert("t", [encode(Document(id=str(i), title="x", labels=["country"])) for i in range(6)])
    await store.upsert("t", [encode(Document(id="rare", title="x", labels=["island"]))])
    (found,) = await store.candidates([SearchRequest(text="an island country", tenant="t")], 5)
    assert found["label"] == [(("rare", None), 1.0)]


async def test_a_document_comes_back_as_it_went_in(store):
    document = Document(
        id="a/b#c'%\u2028", title="T", text="x" * 10, images=[b"one", b"two", b"one"], labels=["L", "ß"],
        metadata={"n": 1, "f": 1.5, "b": True, "l": ["x", "y"], "s": "1"},
    )  # fmt: skip
    await store.upsert("t", [encode(document, images=[unit(np.random.default_rng(0))] * 3)])
    assert await store.get("t", document.id) == document
    image = encode(document, images=[unit(np.random.default_rng(0))] * 3).images[1].image
    assert await store.image("t", image.id) == image


async def test_what_is_deleted_is_gone_from_everywhere(store):
    random = np.random.default_rng(0)
    vector = unit(random)
    encoded = encode(Document(id="a", title="apple", text="x", labels=["fruit"]), [("x", vector)], [vector])
    await store.upsert("t", [encoded])
    request = SearchRequest(text="apple fruit", text_embedding=vector, image_embedding=vector, tenant="t")
    assert all(len(found) == 1 for found in (await store.candidates([request], 5))[0].values())
    await store.delete("t", "a")
    assert not any((await store.candidates([request], 5))[0].values())
    assert await store.passages([request], [[("a", 0), ("a", None)]], [Candidates()]) == [[]]
    with pytest.raises(NotFound, match="'a'"):
        await store.get("t", "a")
    with pytest.raises(NotFound):
        await store.image("t", encoded.images[0].image.id)
    with pytest.raises(NotFound):
        await store.delete("t", "a")


async def test_an_image_stays_while_another_document_shows_it(store):
    vector = unit(np.random.default_rng(0))
    encoded = [encode(Document(id=name, images=[b"shared"]), images=[vector]) for name in "ab"]
    await store.upsert("t", encoded)
    await store.delete("t", "a")
    assert (await store.image("t", encoded[1].images[0].image.id)).content == b"shared"
    assert (await store.candidates([SearchRequest(image_embedding=vector, tenant="t")], 5))[0]["image_image"] == [
        (("b", None), pytest.approx(1.0, abs=1e-2))
    ]


async def test_a_tenant_does_not_see_another(store):
    random = np.random.default_rng(0)
    ours = [random_document(random, number) for number in range(10)]
    request = SearchRequest(text="apple figs", text_embedding=unit(random), image_embedding=unit(random), tenant="ours")
    await store.upsert("ours", ours)
    (before,) = await store.candidates([request], 50)
    theirs = [random_document(random, number) for number in range(40)]
    await store.upsert("theirs", theirs)
    (after,) = await store.candidates([request], 50)
    assert {name: dict(scored).keys() for name, scored in after.items()} == {
        name: dict(scored).keys() for name, scored in before.items()
    }
    assert {**after, "bm25": None} == {**before, "bm25": None}
    assert await store.passages([request], [[("doc-30", 0), ("doc-30", None)]], [Candidates()]) == [[]]
    with pytest.raises(NotFound):
        await store.get("ours", "doc-30")
    with pytest.raises(NotFound):
        await store.delete("ours", "doc-30")
    picture = next(encoded.images[0].image.id for encoded in theirs[10:] if encoded.images)
    with pytest.raises(NotFound):
        await store.image("ours", picture)
    assert await store.image("theirs", picture)
    (found,) = await store.candidates([SearchRequest(text="apple", tenant="nobody")], 5)
    assert not any(found.values())


@pytest.mark.parametrize("filters", [{"": 1}, {"x" * 600: 1}, {"parity": None}, {"parity": {"$ne": 1}}, {"a": [[1]]}])
async def test_a_filter_that_cannot_be_is_refused(store, filters):
    await store.upsert("t", [random_document(np.random.default_rng(0), 1)])
    with pytest.raises(InvalidRequest) as error:
        await store.candidates([SearchRequest(text="apple", filters=filters, tenant="t")], 5)
    assert error.value.param.startswith("filters")


@pytest.mark.parametrize(
    ("filters", "matches"),
    [({"n": 1}, 1), ({"n": 1.0}, 1), ({"n": True}, 0), ({"n": "1"}, 0), ({"b": True}, 1), ({"b": 1}, 0),
     ({"l": "x"}, 1), ({"l": ["z", "y"]}, 1), ({"l": []}, 0), ({"s": "a%"}, 0), ({"missing": 1}, 0),
     ({"s": "a' OR 1=1 --"}, 0), ({"n": 1, "s": "b"}, 0), ({"n": [1, 2], "s": "abc"}, 1)],
)  # fmt: skip
async def test_filters_act_in_every_branch(store, filters, matches):
    vector = unit(np.random.default_rng(0))
    metadata = {"n": 1, "b": True, "l": ["x", "y"], "s": "abc"}
    document = Document(id="a", title="apple", text="x", labels=["fruit"], metadata=metadata)
    await store.upsert("t", [encode(document, [("x", vector)], [vector])])
    request = SearchRequest(
        text="apple fruit", text_embedding=vector, image_embedding=vector, filters=filters, tenant="t"
    )
    (found,) = await store.candidates([request], 5)
    assert len(found) == 6
    assert all(len(scored) == matches for scored in found.values())


@pytest.mark.parametrize("wanted", ["a", "b"])
async def test_words_are_filtered_document_by_document(store, wanted):
    for name in ("a", "b"):
        await store.upsert("t", [encode(Document(id=name, text="red apple", metadata={"name": name}))])
    (found,) = await store.candidates([SearchRequest(text="red apple", filters={"name": wanted}, tenant="t")], 10)
    assert [key for key, _ in found["bm25"]] == [(wanted, 0)]


async def test_a_batch_that_cannot_be_written_is_not_written_in_part(store):
    random = np.random.default_rng(0)
    await store.upsert("t", [random_document(random, 1)])
    before = await store.get("t", "doc-1")
    broken = random_document(random, 3)
    broken.images = [None]
    with pytest.raises(AttributeError):
        await store.upsert("t", [random_document(random, 1), random_document(random, 2), broken])
    assert (await store.count("t"), await store.get("t", "doc-1")) == (1, before)
    (found,) = await store.candidates([SearchRequest(text_embedding=unit(random), tenant="t")], 50)
    assert {key[0] for key, _ in found["text_text"]} == {"doc-1"}


async def test_embeddings_of_other_models_are_refused(config):
    random = np.random.default_rng(0)
    first = open_store(config, "model-a")
    await open_store(config, "model-b").close()
    await first.upsert("t", [random_document(random, 1)])
    with pytest.raises(ConfigurationError, match="model-a, now model-b"):
        open_store(config, "model-b")
    wide = encode(Document(id="w", text="x"), [("x", unit(random, 32))])
    with pytest.raises(ConfigurationError, match="dimension 16, now 32"):
        await first.upsert("t", [wide])
    with pytest.raises(ConfigurationError, match="32 dimensions"):
        await first.candidates([SearchRequest(text_embedding=unit(random, 32), tenant="t")], 5)
    await first.delete("t", "doc-1")
    await first.upsert("t", [wide])
    (found,) = await first.candidates([SearchRequest(text_embedding=unit(random, 32), tenant="t")], 5)
    assert len(found["text_text"]) == 1
    await first.close()


async def test_content_hashes_are_those_of_what_is_stored(store):
    random = np.random.default_rng(0)
    assert await store.content_hashes("t", ["doc-1"]) == {}
    documents = [random_document(random, number) for number in range(3)]
    await store.upsert("t", documents)
    hashes = {one.document.id: one.content_hash for one in documents[1:]}
    assert await store.content_hashes("t", ["doc-1", "doc-2", "doc-9"]) == hashes
    assert await store.content_hashes("u", ["doc-1"]) == {}


async def test_what_is_written_while_loading_is_found_afterwards(store):
    random = np.random.default_rng(0)
    async with store.loading():
        for number in range(3):
            await store.upsert("t", [random_document(random, number)])
    assert await store.count("t") == 3
    (found,) = await store.candidates([SearchRequest(text_embedding=unit(random), tenant="t")], 50)
    assert {key[0] for key, _ in found["text_text"]} == {"doc-0", "doc-1", "doc-2"}


async def test_a_shorter_version_of_a_document_leaves_nothing_of_the_longer(store):
    random = np.random.default_rng(0)
    vectors = [unit(random) for _ in range(6)]
    long = [("one. ", vectors[0]), ("two. ", vectors[1]), ("three. ", vectors[2])]
    text = "one. two. three. "
    await store.upsert("t", [encode(Document(id="a", text=text, images=[b"1", b"2"]), long, vectors[3:5])])
    assert (await store.get("t", "a")).text == text
    await store.upsert("t", [encode(Document(id="a", text="four. "), [("four. ", vectors[5])])])
    request = SearchRequest(text="one two three", text_embedding=vectors[1], image_embedding=vectors[3], tenant="t")
    (found,) = await store.candidates([request], 50)
    assert found["bm25"] == [] and found["image_image"] == []
    assert [key for key, _ in found["text_text"]] == [("a", 0)]
    assert await store.get("t", "a") == Document(id="a", text="four. ")


@pytest.mark.parametrize(
    "name", ["a.b", ".", "a..b", "x*", "naïve", "a b", "_", "\u20ac", "metadata", 'a"b', "y" * 512]
)
async def test_any_name_is_a_metadata_field(store, name):
    metadata = {name: "x" * 4_000 + "\U0001f600" * 90, "other": 2}
    await store.upsert("t", [encode(Document(id="a", text="apple", metadata=metadata))])
    for value, matches in ((metadata[name], 1), ("x", 0)):
        request = SearchRequest(text="apple", filters={name: value, "other": 2}, tenant="t")
        assert len((await store.candidates([request], 5))[0]["bm25"]) == matches
    assert (await store.get("t", "a")).metadata == metadata
