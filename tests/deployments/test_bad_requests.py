"""Whatever is sent, the answer is a clear 4xx in the one shape, and the service goes on."""

import contextlib
import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import ValidationError

from deployments.body import _unique_keys, parse_json
from deployments.http_errors import MalformedBody
from deployments.schema import AnswerBody, DocumentsBody, EmbeddingsBody
from tests.deployments.pictures import bomb, data_uri, png

JSON = {"content-type": "application/json"}


def error_of(response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"type", "message", "param"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({}, 422, "text", "empty"),
        ({"text": "   "}, 422, "text", "empty"),
        ({"text": None, "image": None}, 422, "text", "empty"),
        ({"text": 5}, 422, "text", "string"),
        ({"text": ["a"]}, 422, "text", "string"),
        ({"text": "x" * 8_001}, 413, "text", "8,000"),
        ({"text": "a\x00b"}, 422, "text", "NUL"),
        ({"text": "x", "top_k": 0}, 422, "top_k", "1"),
        ({"text": "x", "top_k": 51}, 422, "top_k", "50"),
        ({"text": "x", "top_k": "5"}, 422, "top_k", "integer"),
        ({"text": "x", "top_k": True}, 422, "top_k", "integer"),
        ({"text": "x", "top_k": 10**400}, 422, "top_k", ""),
        ({"text": "x", "max_new_tokens": 257}, 422, "max_new_tokens", "256"),
        ({"text": "x", "temperature": 2.5}, 422, "temperature", "2"),
        ({"text": "x", "sampling_top_k": -1}, 422, "sampling_top_k", "0"),
        ({"text": "x", "top_p": 0}, 422, "top_p", "1"),
        ({"text": "x", "seed": -1}, 422, "seed", "0"),
        ({"text": "x", "stop": [""]}, 422, "stop", "empty"),
        ({"text": "x", "stop": ["y" * 65]}, 413, "stop", "64"),
        ({"text": "x", "task": "dance"}, 422, "task", "answer"),
        ({"text": "x", "labels": ["ok", ""]}, 422, "labels", "empty"),
        ({"text": "x", "labels": ["a"] * 65}, 413, "labels", "64"),
        ({"text": "x", "filters": {"a": {"b": 1}}}, 422, None, ""),
        ({"text": "x", "filters": {"a": 2**63}}, 422, "filters.a", "64 bits"),
        ({"text": "x", "filters": {"a": ["b"] * 65}}, 413, "filters.a", "64"),
        ({"text": "x", "filters": {"a": [1, 2]}}, 422, "filters.a[0]", "string"),
        ({"text": "x", "filters": {f"k{i}": None for i in range(65)}}, 413, "filters", "64"),
        ({"text": "x"} | {f"k{i}": i for i in range(65)}, 413, None, "more than 32"),
        ({"text": "x", "txet": "y"}, 422, "txet", "did you mean 'text'"),
        ({"text": "x", "tenant": "other"}, 422, "tenant", "unknown field"),
        ({"image": "flag.png"}, 422, "image", "data URI"),
        ({"image": "https://example.com/flag.png"}, 422, "image", "data URI"),
        ({"image": "data:image/png;base64,!!!!"}, 422, "image", "base64"),
        ({"image": "data:text/html;base64,aGk="}, 415, "image", "text/html"),
        ({"image": data_uri(b"hello")}, 415, "image", "PNG"),
        ({"image": data_uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml")}, 415, "image", "PNG"),
        ({"image": data_uri(png()[:40])}, 422, "image", "decoded"),
        ({"image": data_uri(bomb())}, 413, "image", "pixels"),
        ({"image": data_uri(b"\x89PNG\r\n\x1a\n" + b"0" * 500_000)}, 413, "image", "bytes"),
    ],
)
def test_bad_questions(http, body, status, param, words):
    error = error_of(http.post("/v1/answer", json=body), status)
    if param is not None:
        assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'{"text": NaN}', "NaN"),
        (b'{"text": "x", "top_k": Infinity}', "Infinity"),
        (b'{"text": "a", "text": "b"}', "twice"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text": "\xff"}', "UTF-8"),
        (b"[" * 100_000, "nested"),
        (b'{"text":' * 100_000, "nested"),
        (b'{"top_k": ' + b"9" * 5_000 + b"}", "JSON"),
        ("\ufeff{}".encode(), "JSON"),
    ],
)
def test_malformed_json(http, body, words):
    assert words in error_of(http.post("/v1/answer", content=body, headers=JSON), 400)["message"]


def test_a_repeated_name_is_found_in_one_pass():
    class Name(str):
        num_comparisons = 0
        __hash__ = str.__hash__

        def __eq__(self, other):
            Name.num_comparisons += 1
            return str.__eq__(self, other)

    with pytest.raises(ValueError, match="'k999' is there twice"):
        _unique_keys([(Name(f"k{i}"), 0) for i in [*range(1_000), 999]])
    assert Name.num_comparisons < 10_000


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"5"])
def test_json_that_is_no_object(http, body):
    assert "object" in error_of(http.post("/v1/answer", content=body, headers=JSON), 422)["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain"},
        {},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_bodies_of_other_kinds(http, headers):
    error = error_of(http.post("/v1/answer", content=b'{"text": "x"}', headers=headers), 415)
    assert "compressed" in error["message"] or "-H 'content-type: application/json'" in error["message"]


@pytest.mark.parametrize(
    ("fields", "files", "status", "param", "words"),
    [
        ({"text": "x", "txet": "y"}, {"image": ("flag.png", png())}, 422, "txet", "did you mean 'text'"),
        ({"text": "x", "top_k": "many"}, {"image": ("flag.png", png())}, 422, "top_k", "integer"),
        ({"text": "x", "filters": "{"}, {"image": ("flag.png", png())}, 400, "filters", "filters is not valid JSON"),
        ({"text": "x", "filters": "[]"}, {"image": ("flag.png", png())}, 422, "filters", "dictionary"),
        ({"text": "x"}, {"image": ("flag.txt", b"hello")}, 415, "image", "PNG"),
        ({"text": "x"}, {"picture": ("flag.png", png())}, 422, "picture", "sent as 'image'"),
        ({}, {"text": ("question.txt", b"x")}, 422, "text", "text must be text, not a file"),
        ({"image": "flag.png"}, {"text": (None, b"x")}, 422, "image", "image=@flag.png"),
        ({"text": "x"}, [("image", ("a.png", png())), ("image", ("b.png", png()))], 422, "image", "one picture"),
    ],
)
def test_bad_forms(http, fields, files, status, param, words):
    error = error_of(http.post("/v1/answer", data=fields, files=files), status)
    assert error["param"] == param and words in error["message"]


def test_a_number_of_very_many_digits_is_said_to_be_one():
    with pytest.raises(MalformedBody, match="a number has too many digits"):
        parse_json(b'{"top_k": %s}' % (b"9" * 5_001))


def test_a_broken_form(http):
    headers = {"content-type": "multipart/form-data; boundary=x"}
    error_of(http.post("/v1/answer", content=b"--x\r\nno headers here\r\n--x--", headers=headers), 400)
    begun = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n\r\nabc'
    assert "ends early" in error_of(http.post("/v1/answer", content=begun, headers=headers), 400)["message"]
    error_of(http.post("/v1/answer", content=b"", headers={"content-type": "multipart/form-data"}), 400)


@pytest.mark.parametrize(("charset", "status"), [("undefined", 415), ("Punycode", 415), ("UTF-8", 200)])
def test_a_form_is_in_utf_8_or_refused(http, charset, status):
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    body = '--x\r\ncontent-disposition: form-data; name="text"\r\n\r\nü\r\n--x--\r\n'.encode()
    response = http.post("/v1/answer", content=body, headers=headers)
    assert response.status_code == status
    assert status == 200 or "utf-8" in error_of(response, 415)["message"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": []}, 422, "input"),
        ({"input": [1, 2]}, 422, "input[0]"),
        ({"input": ""}, 422, "input[0]"),
        ({"input": ["ok", ""]}, 422, "input[1]"),
        ({"input": "x" * 8_001}, 413, "input[0]"),
        ({"input": ["ok", data_uri(b"hello")]}, 415, "image"),
        ({"input": ["x"] * 2_049}, 413, "input"),
        ({"input": "x", "dimensions": 7}, 422, "dimensions"),
        ({"input": "x", "encoding_format": "hex"}, 422, "encoding_format"),
        ({"model": "x"}, 422, "input"),
    ],
)
def test_bad_embedding_requests(http, body, status, param):
    assert error_of(http.post("/v1/embeddings", json=body), status)["param"] == param


@pytest.mark.parametrize(
    ("bad", "status", "words"),
    [
        ({"id": "", "text": "x"}, 422, "id"),
        ({"id": "bad"}, 422, "title, a text or an image"),
        ({"text": "no id"}, 422, "missing"),
        ({"id": "bad", "text": "x", "titel": "y"}, 422, "did you mean 'title'"),
        ({"id": "bad", "text": "x", "images": ["data:image/png;base64,@@"]}, 422, "base64"),
        ({"id": "bad", "text": "x", "images": [data_uri(png()[:40])]}, 422, "decoded"),
        ({"id": "good", "text": "twice"}, 422, "twice"),
        ({"id": "bad", "images": [data_uri(png())] * 17}, 413, "more than 16"),
        ({"id": "bad", "text": "x", "labels": ["a"] * 65}, 413, "more than 64"),
        ({"id": "bad", "text": "x"} | {f"k{i}": i for i in range(65)}, 413, "more than 32"),
        ({"id": "bad", "text": "x", "metadata": {"a": [1, 2]}}, 422, ""),
    ],
)
def test_one_bad_document_keeps_all_out_and_is_named(http, bad, status, words):
    documents = [{"id": "good", "text": "fine"}, bad]
    error = error_of(http.post("/v1/documents", json={"documents": documents}), status)
    assert words in error["message"]
    assert "documents[1]" in error["param"] and error["message"].startswith("nothing was written, because of")
    assert http.get("/v1/documents/good").status_code == 404


def test_all_bad_documents_are_named_up_to_a_few(http):
    bad = [{"text": "x"}, {"id": "b", "titel": "x"}, {"id": "c"}, {"id": "d", "text": "x", "images": ["d.png"]}, 5]
    error = error_of(http.post("/v1/documents", json={"documents": [{"id": "good", "text": "x"}, *bad]}), 422)
    for words in (
        "(None): id is missing",
        "('b'): unknown field 'titel'",
        "('c'): a document needs",
        "('d'): images[0]",
    ):
        assert words in error["message"]
    assert "documents[5] (None): a document must be a JSON object" in error["message"]
    assert error["param"] == "documents[1].id"
    many = error_of(http.post("/v1/documents", json={"documents": [{"id": "b", "titel": "x"}] * 9}), 422)
    assert many["message"].endswith("; and 4 more") and len(many["message"]) < 1_000


def test_too_many_documents(http):
    documents = [{"id": f"d{i}", "text": "x"} for i in range(257)]
    assert error_of(http.post("/v1/documents", json={"documents": documents}), 413)["param"] == "documents"


def test_too_many_documents_are_refused_before_any_is_looked_at(http):
    documents = [0] * 257
    assert error_of(http.post("/v1/documents", json={"documents": documents}), 413)["param"] == "documents"


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (AnswerBody, {"text": "x", "labels": [0] * 100_000}),
        (AnswerBody, {"text": "x", "filters": {"a": [0] * 100_000}}),
        (AnswerBody, {"text": "x", "filters": {f"k{i}": None for i in range(100_000)}}),
        (AnswerBody, {f"k{i}": None for i in range(100_000)}),
        (EmbeddingsBody, {"input": [0] * 100_000}),
        (DocumentsBody, {"documents": [0] * 100_000}),
        (DocumentsBody, {"documents": [{f"k{i}": 0 for i in range(100_000)}]}),
        (DocumentsBody, {"documents": [{"id": "x", "images": [0] * 100_000}]}),
        (DocumentsBody, {"documents": [{"id": "x", "labels": [0] * 100_000}]}),
        (DocumentsBody, {"documents": [{"id": "x", "metadata": {f"k{i}": None for i in range(100_000)}}]}),
    ],
)
def test_very_much_that_is_wrong_makes_few_complaints(model, fields):
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(fields, strict=True)
    assert refusal.value.error_count() < 10


def test_unknown_routes_and_methods(http):
    error_of(http.get("/v2/answer"), 404)
    error_of(http.get("/v1/images/" + "0" * 64), 404)
    error_of(http.get("/v1/images/..%2F..%2Fetc%2Fpasswd"), 404)
    assert error_of(http.get("/v1/answer"), 405)["type"] == "method_not_allowed"
    error_of(http.delete("/healthz"), 405)


def test_a_body_too_large_is_cut_off_whatever_its_header_says(http, url):
    error_of(http.post("/v1/answer", json={"text": "x" * 2_100_000}), 413)

    def endless():
        for _ in range(10_000):
            yield b" " * 10_000

    with contextlib.suppress(httpx.TransportError):  # it may hang up on us, which is as good
        error_of(http.post("/v1/answer", content=endless(), headers=JSON), 413)
    assert http.get("/healthz").status_code == 200


def test_a_body_that_never_ends_has_its_time(url):
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        head = "POST /v1/answer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
        connection.sendall(head.encode() + b'{"text"')
        response = connection.recv(65536).decode()
        while '"error"' not in response and (more := connection.recv(65536)):
            response += more.decode()
    assert response.startswith("HTTP/1.1 408")
    assert json.loads(response.split("\r\n\r\n")[1])["error"]["type"] == "request_timeout"


def test_an_error_does_not_send_the_input_back(http):
    response = http.post("/v1/search", json={"text": "a", "x" * 100_000: 1})
    assert response.status_code == 422 and len(response.content) < 1_000
    assert len(http.get("/" + "y" * 20_000).content) < 1_000
