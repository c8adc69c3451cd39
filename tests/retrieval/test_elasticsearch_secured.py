"""Elasticsearch as a company runs it: the newest version that runs here, over https, for those with a password."""

import asyncio
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mmrag.config import ElasticsearchConfig, RetrieverConfig
from mmrag.errors import ConfigurationError, Unavailable
from mmrag.retrieval import Retriever
from mmrag.retrieval.elasticsearch import ElasticsearchStore
from mmrag.retrieval.elasticsearch.connection import Connection
from mmrag.retrieval.elasticsearch.reindex import Reindex
from mmrag.types import Document, SearchRequest
from tests.elasticsearch_server import START
from tests.retrieval.knowledge import encode, unit

PASSWORD = "for-tests-only"


def _newest_version() -> str:
    majors = [
        int(re.search(r'JAVA_VERSION="(\d+)', file.read_text())[1]) for file in Path("/usr/lib/jvm").glob("*/release")
    ]
    return "9.4.3" if max(majors, default=0) >= 21 else "8.19.16"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secured")
    command = [START, "--version", _newest_version(), "--secure", folder / "certificate.pem"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        assert url.startswith("https://"), "cluster/start-elasticsearch printed no address"
        yield ElasticsearchConfig(
            urls=[url], images_path=str(folder / "images"), ca_certs=str(folder / "certificate.pem"), num_replicas=0,
            timeout_s=20.0,
        )  # fmt: skip
        server.terminate()


@pytest.mark.elasticsearch
async def test_all_is_done_with_a_password_over_https(config, monkeypatch):
    monkeypatch.setenv(config.password_env, PASSWORD)
    random = np.random.default_rng(0)
    store = ElasticsearchStore(config, "model")
    documents = [
        encode(Document(id=str(i), title=f"title {i}", text="apple"), [("apple", unit(random))], [unit(random)])
        for i in range(20)
    ]
    report = await store.load("ours", iter(documents))
    assert (report.num_upserted, report.refused) == (20, [])
    await store.upsert("theirs", documents[:1])
    first = documents[3]
    request = SearchRequest(
        text="title 3", text_embedding=first.passages[0].embedding, image_embedding=first.images[0].embedding,
        tenant="ours",
    )  # fmt: skip
    retriever = Retriever(store, RetrieverConfig(kind="elasticsearch", elasticsearch=config))
    for _ in range(2):  # before a reindex and after
        [found] = await retriever.search([request])
        assert (found[0].document_id, found.degraded) == ("3", [])
        assert found[0].branches.keys() == {"bm25", "label", "text_text", "image_image", "text_image", "image_text"}
        assert (await store.get("ours", "3")).text == "apple"
        assert await store.image("ours", first.images[0].image.id) == first.images[0].image
        await Reindex(config.model_copy(update={"timeout_s": 2.0}), "model", None).run()
    await store.delete("ours", "3")
    assert (await store.count("ours"), await store.count("theirs")) == (19, 1)
    await store.close()


@pytest.mark.elasticsearch
@pytest.mark.parametrize("password", ["wrong", None])
async def test_who_is_not_let_in_is_told_what_to_set(config, monkeypatch, password):
    monkeypatch.delenv(config.password_env, raising=False)
    if password:
        monkeypatch.setenv(config.password_env, password)
    with pytest.raises(ConfigurationError, match=r"MMRAG_ELASTICSEARCH_API_KEY.*MMRAG_ELASTICSEARCH_PASSWORD"):
        ElasticsearchStore(config)


@pytest.mark.elasticsearch
async def test_a_server_that_cannot_prove_who_it_is_is_not_talked_to(config, monkeypatch):
    monkeypatch.setenv(config.password_env, PASSWORD)
    connection = Connection(config.model_copy(update={"ca_certs": None, "timeout_s": 1.0}))
    with pytest.raises(Unavailable):
        await connection.call("GET", "/_cluster/health")
    await connection.close()


async def test_an_api_key_is_sent_instead_of_a_password(monkeypatch):
    config = ElasticsearchConfig()
    monkeypatch.setenv(config.password_env, PASSWORD)
    monkeypatch.setenv(config.api_key_env, "a2V5")
    heads = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        body = json.dumps({"status": "green"}).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body
        )
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = Connection(config.model_copy(update={"urls": [f"http://127.0.0.1:{port}"]}))
        assert await connection.call("GET", "/_cluster/health") == {"status": "green"}
        await connection.close()
    assert b"\r\nauthorization: ApiKey a2V5\r\n" in heads[0].replace(b"Authorization", b"authorization")
