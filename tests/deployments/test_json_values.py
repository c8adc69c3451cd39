"""Bodies that would take long to parse are refused as they come."""

import pytest

from tests.deployments.test_bad_requests import JSON, error_of


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0", b'""', b'{"\\"": "\\\\"}'])
@pytest.mark.parametrize("path", ["/v1/answer", "/v1/documents"])
def test_very_many_values_are_refused_unparsed(http, path, value):
    body = b'{"text": [' + b",".join([value] * 100_001) + b"]}"
    assert "100,000 values" in error_of(http.post(path, content=body, headers=JSON), 413)["message"]


def test_brackets_in_a_text_are_no_values(http):
    source = '\\{"f": [1, 2]}, \\' * 20_000
    documents = [{"id": "source", "text": source[:1_000], "metadata": {"of": "braces"}}, {"id": "", "text": source}]
    error = error_of(http.post("/v1/documents", json={"documents": documents}), 422)
    assert error["param"] == "documents[1].id"


def test_a_question_may_be_as_large_as_its_picture_and_little_more(http):
    body = {"text": "x", "image": "data:image/png;base64," + "A" * 1_800_000}
    assert "the body has more than" in error_of(http.post("/v1/answer", json=body), 413)["message"]
    form = {"data": {"text": "x"}, "files": {"image": ("a.png", b"A" * 1_800_000)}}
    assert "the body has more than" in error_of(http.post("/v1/search", **form), 413)["message"]
