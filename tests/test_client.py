"""The client against a real service."""

import re

import numpy as np
import pytest

from mmrag.client import AsyncClient, Client, base_url
from mmrag.errors import InvalidRequest, NotFound, TooLarge, Unavailable, UnsupportedMedia
from mmrag.types import Document, Refusal
from tests.deployments.pictures import data_uri, jpeg, png

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
    with Client("http://127.0.0.1:9") as client, pytest.raises(Unavailable, match=r"127\.0\.0\.1:9: .*MMRAG_URL"):
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
    [bad] = [refusal for refusal in report.refused if refusal.document_id == "bad"]
    assert bad.reason.startswith("the image is broken") and bad.param == "images[0]"
    for i in range(1, 40):
        client.delete(f"good-{i}")
    with pytest.raises(NotFound):
        client.delete("good-1")


def test_what_is_obviously_meant_is_taken(client, url, tmp_path):
    flag = tmp_path / "flag.png"
    flag.write_bytes(png((1, 2, 33)))
    document = {"id": "olmar", "title": "Olmar", "image": str(flag), "metadata": {"size": 3}}
    assert client.upsert(document)["images"] == 1
    for picture in (str(flag), flag, flag.read_bytes(), data_uri(flag.read_bytes())):
        assert client.search(image=picture, top_k=1)["passages"][0]["document_id"] == "olmar"
    assert client.embed("Olmar").shape == client.embed(flag).shape == (1, 384)
    with Client(f"{url.removeprefix('http://')}/v1/") as other:
        assert other.get("olmar")["metadata"] == {"size": 3}
        other.delete("olmar")


def test_an_ingest_takes_dictionaries_and_paths(client, tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text('{"id": "from-file", "title": "Tome"}\n{"id": "bad", "titel": "x"}\n')
    assert client.ingest(path).num_upserted == 1
    report = client.ingest([{"id": "from-dict", "title": "Tim"}, {"id": "blind", "images": ["nowhere.png"]}, "x"])
    assert report.num_upserted == 1
    assert [refusal.document_id for refusal in report.refused] == ["blind", "a document without an id"]
    assert "nowhere.png: No such file" in report.refused[0].reason
    for name in ("from-file", "from-dict"):
        client.delete(name)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda client: client.answer(image="nowhere.png"), "image nowhere.png: No such file"),
        (lambda client: client.answer(image="https://example.com/flag.png"), "is an address: fetch the picture"),
        (lambda client: client.answer(image=7), "image must be a path, the bytes of a file, or a data URI, not int"),
        (lambda client: client.answer(image=__file__), "test_client.py: this is not a PNG"),
        (lambda client: client.upsert(["zubrovia"]), "a document must be a Document or a dict"),
        (lambda client: client.upsert([{"id": "x", "titel": "y"}]), "did you mean 'title'"),
        (lambda client: client.answer("x", topk=3), "did you mean 'top_k'"),
    ],
)
def test_a_mistake_in_python_names_the_mend(client, call, words):
    with pytest.raises(InvalidRequest, match=re.escape(words)):
        call(client)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost:8000/v1", "http://localhost:8000"),
        (" http://rag.example.org/v1/ ", "http://rag.example.org"),
        ("https://example.org/mmrag/", "https://example.org/mmrag"),
    ],
)
def test_an_address_is_taken_as_people_write_it(given, meant):
    assert base_url(given) == meant


@pytest.mark.parametrize("given", ["", "ftp://x", "http://", "http://x:port", "http://[::1"])
def test_no_address_is_said_with_one_that_is(given):
    with pytest.raises(InvalidRequest, match=r"such as http://127\.0\.0\.1:8000"):
        Client(given)


def test_a_service_that_is_not_mmrag_is_said_to_be_none(url):
    with Client(f"{url}/web/page.css?") as client, pytest.raises(Unavailable, match="not mmrag"):
        client.ready()


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
