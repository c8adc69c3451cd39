import numpy as np
import pytest

from mmrag.config import BranchWeights
from mmrag.retrieval import Retriever
from mmrag.types import Document, SearchRequest
from tests.retrieval.knowledge import encode, random_document, unit


@pytest.fixture
def retriever(store, config):
    return Retriever(store, config)


def _axis(*weights: float) -> np.ndarray:
    vector = np.zeros(16, dtype=np.float32)
    vector[: len(weights)] = weights
    return vector / np.linalg.norm(vector)


async def test_a_picture_brings_the_text_of_its_document_that_fits_best(retriever):
    passages = [("About the coast.", _axis(1)), ("About the capital.", _axis(0, 1)), ("About money.", _axis(0, 0, 1))]
    text = "".join(passage for passage, _ in passages)
    flag, other = _axis(0, 0, 0, 1), _axis(0, 0, 0, 0, 1)
    await retriever.store.upsert("t", [encode(Document(id="peru", title="Peru", text=text), passages, [other, flag])])
    (both,) = await retriever.search(
        [SearchRequest(image_embedding=flag, text_embedding=_axis(0, 1, 0.2), top_k=1, tenant="t")]
    )
    assert (both[0].id, both[0].text) == ("peru#1", "About the capital.")
    assert text[both[0].start : both[0].end] == both[0].text
    np.testing.assert_array_equal(both[0].image_embedding, flag.astype(np.float16))
    assert both[0].branches["image_image"] == 1


async def test_a_hit_on_text_brings_the_picture_of_its_document(retriever):
    await retriever.store.upsert(
        "t", [encode(Document(id="a", title="apple", text="red"), images=[_axis(1), _axis(0, 1)])]
    )
    (found,) = await retriever.search([SearchRequest(text="apple", text_embedding=_axis(0, 1), tenant="t")])
    np.testing.assert_array_equal(found[0].image_embedding, _axis(0, 1).astype(np.float16))
    assert (await retriever.store.image("t", found[0].image_id)).content == _axis(0, 1).tobytes()


async def test_a_picture_without_text_is_found(retriever):
    await retriever.store.upsert("t", [encode(Document(id="a"), images=[_axis(1)])])
    (found,) = await retriever.search([SearchRequest(image_embedding=_axis(1), tenant="t")])
    assert [(passage.id, passage.text, passage.text_embedding) for passage in found] == [("a#0", "", None)]


async def test_a_picture_credits_one_passage_of_its_document(retriever):
    passages = [(f"part {i}", _axis(0, 1, i / 100)) for i in range(20)]
    long = encode(Document(id="long", text="x"), passages, [_axis(1, 0.1)])
    short = encode(Document(id="short", text="y"), [("y", _axis(0, 0, 0, 1))], [_axis(1)])
    await retriever.store.upsert("t", [long, short])
    (found,) = await retriever.search([SearchRequest(image_embedding=_axis(1), top_k=2, tenant="t")])
    assert {passage.document_id for passage in found} == {"long", "short"}


async def test_several_passages_of_one_document_may_be_found(retriever):
    passages = [("the harbour", _axis(1)), ("nothing", _axis(0, 0, 1)), ("the harbour again", _axis(1, 0.1))]
    await retriever.store.upsert("t", [encode(Document(id="long", text="x"), passages)])
    (found,) = await retriever.search([SearchRequest(text="harbour", text_embedding=_axis(1), top_k=2, tenant="t")])
    assert {passage.id for passage in found} == {"long#0", "long#2"}


async def test_similarities_are_exact_for_every_passage_whatever_branch_found_it(retriever):
    random = np.random.default_rng(0)
    documents = {f"doc-{number}": random_document(random, number) for number in range(40)}
    await retriever.store.upsert("t", list(documents.values()))
    request = SearchRequest(
        text="apple figs", text_embedding=unit(random), image_embedding=unit(random), top_k=30, tenant="t"
    )
    (found,) = await retriever.search([request])
    assert len(found) == 30
    bm25 = dict((await retriever.store.candidates([request], 50))[0]["bm25"])
    for passage in found:
        encoded = documents[passage.document_id]
        text = encoded.passages[int(passage.id.split("#")[1])].embedding
        expected = {"text_text": request.text_embedding @ text, "image_text": request.image_embedding @ text}
        if encoded.images:
            image = max((image.embedding for image in encoded.images), key=lambda e: e @ request.image_embedding)
            expected["text_image"] = request.text_embedding @ image
            expected["image_image"] = request.image_embedding @ image
        cosines = {name: value for name, value in passage.similarities.items() if "_" in name}
        assert cosines == pytest.approx(expected, abs=1e-6)
        score = bm25.get((passage.document_id, int(passage.id.split("#")[1])), 0.0)
        assert passage.similarities.get("bm25", 0.0) == pytest.approx(score / max(bm25.values()))
    assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)


async def test_a_batch_gives_what_single_requests_give(retriever):
    random = np.random.default_rng(0)
    for tenant in ("one", "two"):
        await retriever.store.upsert(tenant, [random_document(random, number) for number in range(40)])
    requests = [
        SearchRequest(text="apple", tenant="one"),
        SearchRequest(text_embedding=unit(random), tenant="two", top_k=3),
        SearchRequest(text="figs", image_embedding=unit(random), tenant="two", filters={"parity": 1}),
        SearchRequest(text_embedding=unit(random), image_embedding=unit(random), tenant="one", top_k=50),
        SearchRequest(text="apple", tenant="nobody"),
    ]
    together = await retriever.search(requests)
    alone = [(await retriever.search([request]))[0] for request in requests]
    outline = [[(p.id, p.branches, pytest.approx(p.similarities, abs=1e-6)) for p in found] for found in alone]
    assert [[(p.id, p.branches, p.similarities) for p in found] for found in together] == outline
    assert [len(found) for found in together] == [5, 3, 5, 50, 0]


async def test_a_branch_of_weight_zero_is_off(store, config):
    weights = BranchWeights(bm25=0.0, label=0.0)
    retriever = Retriever(store, config.model_copy(update={"weights": weights}))
    await retriever.store.upsert("t", [encode(Document(id="a", title="apple", text="x"), [("x", _axis(1))])])
    assert await retriever.search([SearchRequest(text="apple", tenant="t")]) == [[]]
    (found,) = await retriever.search([SearchRequest(text="apple", text_embedding=_axis(1), tenant="t")])
    assert found[0].branches == {"text_text": 1}
    assert set(found[0].similarities) == {"text_text"}


async def test_a_question_finds_the_document_it_names_before_those_that_mention_it(retriever):
    texts = {
        "Sudan": "Sudan borders South Sudan. Its capital is Khartoum.",
        "South Sudan": "It borders Sudan. The capital is Juba.",
        "Kenya": "Kenya borders South Sudan, South Sudan and South Sudan. The capital of Kenya is Nairobi.",
        "Côte d'Ivoire": "The capital is Yamoussoukro.",
        "capital letters": "A capital, the capital of capitals: capital!",
    }
    await retriever.store.upsert(
        "t", [encode(Document(id=name, title=name, text=text)) for name, text in texts.items()]
    )
    questions = {
        "South Sudan": "capital of south sudan?",
        "Sudan": "What is Sudan's capital?",
        "Côte d'Ivoire": "what's the capital of COTE D'IVOIRE",
    }
    for name, question in questions.items():
        (found,) = await retriever.search([SearchRequest(text=question, tenant="t")])
        assert found[0].document_id == name
        assert found[0].similarities["label"] == 1.0
    (found,) = await retriever.search([SearchRequest(text=questions["South Sudan"], tenant="t")])
    assert {p.document_id: p.similarities.get("label") for p in found if "label" in p.branches} == {
        "South Sudan": 1.0, "Sudan": 0.5,
    }  # fmt: skip


async def test_a_shown_picture_outweighs_the_words_but_what_they_name_stays_in_sight(retriever):
    random = np.random.default_rng(0)
    documents = [encode(Document(id=f"d{i}", title=f"d{i}", text="x"), [("x", unit(random))], [unit(random)])
                 for i in range(40)]  # fmt: skip
    await retriever.store.upsert("t", documents)
    shown, chance = documents[3].images[0].embedding, documents[7].passages[0].embedding
    requests = [
        SearchRequest(text=text, text_embedding=chance, image_embedding=shown, tenant="t")
        for text in ("what is x", "what is d7")
    ]
    shown_only, also_named = await retriever.search(requests)
    assert shown_only[0].document_id == "d3"
    assert {"d3", "d7"} <= {passage.document_id for passage in also_named[:3]}
