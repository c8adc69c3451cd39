"""The client against a real service."""

import numpy as np
import pytest

from mmrag.client import AsyncClient, Client
from mmrag.errors import InvalidRequest, NotFound, TooLarge, Unavailable, UnsupportedMedia
from mmrag.types import Document, Refusal
from tests.deployments.pictures import jpeg, png

FLORIA = Document(
    "floria/1",
    "Floria",
    "Floria is an island. Its capital is Petalport.",
    images=[png((11, 99, 55)), jpeg((77, 7, 7))],
    labels=["island"],
    metadata={"is_real": False},
)


@pytest.fixture
def client(url):
    with Client(url) as client:
        client.upsert([FLORIA])
        yield client


@pytest.fixture
async def async_client(url, client):
    async with AsyncClient(url) as async_client:
        yield async_client


def test_a_document_goes_in_and_comes_out(client):
    stored = client.get("floria/1")
    assert (stored["title"], stored["labels"], stored["metadata"]) == ("Floria", ["island"], {"is_real": False})
    image_ids = [address.rpartition("/")[2] for address in stored["images"]]
    assert [client.image(image_id) for image_id in image_ids] == FLORIA.images


def test_answers_streams_and_searches(client):
    question = {"text": "What is the capital of Floria?", "image": FLORIA.images[0], "top_k": 1}
    assert client.search(**question)["passages"][0]["document_id"] == "floria/1"
    answer = client.answer(**question, max_new_tokens=6)
    *pieces, streamed = client.stream(**question, max_new_tokens=6)
    assert "".join(pieces) == streamed["answer"] == answer["answer"]


def test_embeddings_are_unit_vectors(client):
    embeddings = client.embed(["Floria", FLORIA.images[0]])
    assert embeddings.shape == (2, 384) and embeddings.dtype == np.float32
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-3)


def test_errors_are_those_of_the_library(client):
    with pytest.raises(NotFound):
        client.get("nowhere")
    with pytest.raises(InvalidRequest) as caught:
        client.answer("")
    assert caught.value.param == "text"
    with pytest.raises(TooLarge):
        client.search("x" * 9_000)
    with pytest.raises(UnsupportedMedia):
        client.answer(image=b"no picture")
    with pytest.raises(InvalidRequest):
        list(client.stream(""))


def test_no_service_is_said_with_its_address():
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9\b"), Client("http://127.0.0.1:9") as client:
        client.answer("x")


def test_an_ingest_takes_what_is_good_and_names_what_is_not(client):
    source = [
        Document("good-1", "One"),
        Refusal("line 2", "no JSON"),
        Document("bad", "Bad", images=[png()[:50]]),
        *[Document(f"good-{i}", f"Number {i}") for i in range(2, 40)],
    ]
    report = client.ingest(iter(source))
    assert report.num_upserted == 39
    assert sorted(refusal.document_id for refusal in report.refused) == ["bad", "line 2"]
    for i in range(1, 40):
        client.delete(f"good-{i}")
    with pytest.raises(NotFound):
        client.delete("good-1")


def test_readiness(client):
    assert client.ready() == {"everything": "ok"}


async def test_the_async_client_does_the_same(async_client):
    question = {"text": "What is the capital of Floria?", "top_k": 1, "max_new_tokens": 6}
    answer = await async_client.answer(**question)
    pieces = [piece async for piece in async_client.stream(**question)]
    assert "".join(pieces[:-1]) == pieces[-1]["answer"] == answer["answer"]
    assert (await async_client.search("Floria", top_k=1))["passages"][0]["document_id"] == "floria/1"
    assert (await async_client.embed(["Floria"])).shape == (1, 384)
    assert (await async_client.upsert([FLORIA]))["unchanged"] == 1
    stored = await async_client.get("floria/1")
    assert await async_client.image(stored["images"][0].rpartition("/")[2]) == FLORIA.images[0]
    with pytest.raises(NotFound):
        await async_client.delete("nowhere")
    assert await async_client.ready() == {"everything": "ok"}


def test_both_clients_have_the_same_methods():
    def methods(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(Client) - methods(AsyncClient) == {"ingest"}
