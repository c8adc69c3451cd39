"""The HTTP API with good requests, over HTTP and real parts."""

import base64
import hashlib
import html
import json
import re
import subprocess

import numpy as np
import openai
import pytest

from deployments import docs_page
from deployments.schema import AnswerView
from tests.deployments.pictures import data_uri, jpeg, png

DOCUMENT = {
    "id": "zubrovia",
    "title": "Zubrovia",
    "text": "Zubrovia is a country in Europe. Its capital is Lutzport, and people pay with the florin.",
    "images": [data_uri(png())],
    "labels": ["country"],
    "metadata": {"continent": "Europe", "area": 12, "is_real": False},
}


@pytest.fixture(scope="module", autouse=True)
def zubrovia(url):
    import httpx

    response = httpx.post(f"{url}/v1/documents", json={"documents": [DOCUMENT]}, timeout=30)
    assert response.json() == {"upserted": 1, "unchanged": 0, "passages": 1, "images": 1}


def events_of(response) -> list[tuple[str, dict]]:
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in response.text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


def test_an_answer_comes_with_its_evidence(http):
    answer = http.post("/v1/answer", json={"text": "What is the capital of Zubrovia?", "explain": True}).json()
    assert set(answer) == {"id", "answer", "finish_reason", "passages", "attribution", "degraded", "timings_ms"}
    assert set(answer) < set(AnswerView.model_fields)
    [passage] = answer["passages"]
    assert passage["document_id"] == "zubrovia"
    assert passage["text"] == DOCUMENT["text"]
    assert passage["metadata"] == DOCUMENT["metadata"]
    assert passage["branches"]["bm25"] == 1
    assert answer["degraded"] == []
    assert answer["timings_ms"]["total"] > 0


def test_an_answer_says_whether_it_was_cut_and_a_question_is_not(http):
    cut = http.post("/v1/answer", json={"text": "What is the capital of Zubrovia?", "max_new_tokens": 1}).json()
    assert cut["finish_reason"] == "length"
    refused = http.post("/v1/answer", json={"text": "What is the capital of Zubrovia? " * 60})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "text"


@pytest.mark.parametrize("path", ["/v1/answer", "/v1/search"])
def test_a_filter_on_a_field_that_there_is_not_names_those_that_are(http, path):
    def ask(filters):
        return http.post(path, json={"text": "Zubrovia", "filters": filters})

    error = ask({"contient": "Europe"}).json()["error"]
    assert error["param"] == "filters.contient" and "did you mean 'continent'?" in error["message"]
    message = ask({"continent": "Europe", "zzz": 1}).json()["error"]["message"]
    assert "'zzz'; there are" in message and all(f" {name}" in message for name in DOCUMENT["metadata"])
    assert ask({"continent": "Asia"}).json()["passages"] == []
    assert ask({"continent": "Europe"}).json()["passages"]


def test_an_image_alone_is_a_question(http):
    [passage] = http.post("/v1/search", json={"image": data_uri(png())}).json()["passages"]
    assert passage["branches"]["image_image"] == 1
    assert passage["similarities"]["image_image"] == pytest.approx(1, abs=0.01)


def test_classify_chooses_among_the_given_labels(http):
    body = {"text": "Where is Zubrovia?", "task": "classify", "labels": ["Europe", "Asia", "the sea"]}
    scores = http.post("/v1/answer", json=body).json()["labels"]
    assert {score["label"] for score in scores} == set(body["labels"])
    assert sum(score["score"] for score in scores) == pytest.approx(1, abs=0.01)


def test_a_streamed_answer_is_the_whole_answer_in_pieces(http):
    question = {"text": "What is the capital of Zubrovia?", "max_new_tokens": 8}
    whole = http.post("/v1/answer", json=question).json()
    response = http.post("/v1/answer", json=question | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *tokens, (last, answer) = events_of(response)
    assert last == "answer" and {name for name, _ in tokens} <= {"token"}
    assert "".join(data["text"] for _, data in tokens) == answer["answer"] == whole["answer"]
    assert answer["passages"] == whole["passages"]


def test_curl_sends_a_picture_as_a_file(url, tmp_path):
    (tmp_path / "flag.png").write_bytes(png())
    fields = ["-F", f"image=@{tmp_path}/flag.png", "-F", "text=Which country is this?", "-F", "top_k=1"]
    fields += [
        "-F",
        "labels=Europe",
        "-F",
        "labels=Asia",
        "-F",
        "task=classify",
        "-F",
        'filters={"continent": "Europe"}',
    ]
    done = subprocess.run(["curl", "-s", *fields, f"{url}/v1/answer"], capture_output=True, check=True)
    answer = json.loads(done.stdout)
    assert len(answer["labels"]) == 2
    assert answer["passages"][0]["branches"]["image_image"] == 1


def test_filters_leave_out_what_does_not_match(http):
    question = {"text": "Zubrovia"}
    assert http.post("/v1/search", json=question | {"filters": {"area": 12}}).json()["passages"]
    assert not http.post("/v1/search", json=question | {"filters": {"continent": ["Asia", "Africa"]}}).json()[
        "passages"
    ]


def test_the_openai_client_works_unmodified(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    found = client.embeddings.create(model="anything", input=["one", "two", data_uri(jpeg(), "image/jpeg")])
    embeddings = np.array([item.embedding for item in found.data], np.float32)
    assert embeddings.shape == (3, 384)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-3)
    as_floats = client.embeddings.create(model="anything", input="one", encoding_format="float").data[0].embedding
    assert as_floats == pytest.approx(embeddings[0].tolist(), abs=1e-6)
    assert found.usage.prompt_tokens == found.usage.total_tokens == 6  # two words, each between two marks
    [model] = client.models.list().data
    assert model.id == found.model


def test_embeddings_as_base64_are_little_endian_floats(http):
    body = {"input": "one", "encoding_format": "base64"}
    [item] = http.post("/v1/embeddings", json=body).json()["data"]
    assert len(base64.b64decode(item["embedding"])) == 4 * 384


@pytest.mark.parametrize("document_id", ["a/b c", "ü?#%", "/x", "a+b&c=d", "🙂", "x" * 512, "v1/documents"])
def test_ids_may_hold_any_characters(http, document_id):
    from urllib.parse import quote

    path = f"/v1/documents/{quote(document_id, safe='')}"
    http.post("/v1/documents", json={"documents": [{"id": document_id, "text": "odd"}]}).raise_for_status()
    assert http.get(path).json()["id"] == document_id
    assert http.delete(path).json() == {"id": document_id, "deleted": True}
    assert http.get(path).status_code == 404
    assert http.delete(path).status_code == 404


def test_what_is_written_is_found_and_what_is_deleted_is_gone(http):
    document = {"id": "gone", "title": "Quagmirium", "text": "A quagmirium.", "images": [data_uri(png((1, 2, 250)))]}
    assert http.post("/v1/documents", json={"documents": [document]}).json()["upserted"] == 1
    assert http.post("/v1/documents", json={"documents": [document]}).json()["unchanged"] == 1
    queries = [{"text": "quagmirium", "top_k": 1}, {"image": document["images"][0], "top_k": 1}]
    for query in queries:
        assert http.post("/v1/search", json=query).json()["passages"][0]["document_id"] == "gone"
    [address] = http.get("/v1/documents/gone").json()["images"]
    http.delete("/v1/documents/gone").raise_for_status()
    for query in queries:
        found = http.post("/v1/search", json=query).json()["passages"]
        assert "gone" not in [passage["document_id"] for passage in found]
    assert http.get(address).status_code == 404


def test_pictures_come_back_as_they_were_and_may_be_kept(http):
    [address] = http.get("/v1/documents/zubrovia").json()["images"]
    response = http.get(address)
    assert response.content == png()
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert http.get(address, headers={"if-none-match": response.headers["etag"]}).status_code == 304


def test_health_and_readiness(http):
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"ready": True, "components": {"everything": "ok"}}


def test_openapi_describes_bodies_examples_and_errors(http):
    described = http.get("/openapi.json").json()
    body = described["paths"]["/v1/answer"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    schemas = described["components"]["schemas"]
    assert schemas["AnswerBody"]["examples"][0]["text"]
    assert "ErrorView" in schemas and "DocumentBody" in schemas
    references = set(json.dumps(described).split('"#/components/schemas/')[1:])
    assert {reference.split('"')[0] for reference in references} <= set(schemas)


def test_the_page_lets_nothing_foreign_in(http):
    page = http.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert "<script>" not in page.text and "style=" not in page.text
    for part in ("/web/page.js", "/web/page.css", "/favicon.ico"):
        assert http.get(part).status_code == 200
    assert "innerHTML" not in http.get("/web/page.js").text


def test_the_documentation_is_plain_and_needs_nothing_from_elsewhere(http):
    response = http.get("/docs")
    described = http.get("/openapi.json").json()
    text = html.unescape(response.text)
    for path, verbs in described["paths"].items():
        assert path in text
        assert all(operation["description"] in text for operation in verbs.values())
    assert '{"text": "What is the capital of Peru?"}' in text
    assert "<script" not in text and "http://" not in text and "https://" not in text
    [style] = re.findall("<style>(.*?)</style>", response.text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{allowed}'" in response.headers["content-security-policy"]
    assert "script-src" not in response.headers["content-security-policy"]


def test_what_the_documentation_shows_is_escaped():
    hostile = "<script>alert(1)</script>"
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}}
    model = {"properties": {hostile: {"description": hostile}}, "examples": [{hostile: hostile}]}
    operation = {"description": hostile, "requestBody": body}
    described = {"paths": {hostile: {hostile: operation}}, "components": {"schemas": {"Body": model}}}
    shown = docs_page.page(described)
    assert hostile not in shown.lower() and shown.lower().count(html.escape(hostile)) == 7
