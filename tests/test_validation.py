import random
import time

import pytest

from mmrag.config import Limits
from mmrag.errors import InvalidRequest, TooLarge
from mmrag.types import Document, Query
from mmrag.validation import check_document, check_filter_fields, check_query

LIMITS = Limits(max_text_chars=100, max_top_k=10, max_labels=3, max_images_per_document=2)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (Query(), "text"),
        (Query(text="  \n"), "text"),
        (Query(text="x" * 101), "text"),
        (Query(text="a\x00b"), "text"),
        (Query(text="\ud800"), "text"),
        (Query(text="a", top_k=0), "top_k"),
        (Query(text="a", top_k=11), "top_k"),
        (Query(text="a", max_new_tokens=0), "max_new_tokens"),
        (Query(text="a", task="sing"), "task"),
        (Query(text="a", labels=["x"] * 4), "labels"),
        (Query(text="a", labels=[" "]), "labels"),
        (Query(text="a", task="classify", labels=["x" * 201]), "labels"),
        (Query(text="a", filters={"size": float("nan")}), "filters.size"),
        (Query(text="a", filters={"size": {"gt": 1}}), "filters.size"),
        (Query(text="a", filters={"size": 2**70}), "filters.size"),
        (Query(text="a", filters={"size": ["x"] * 65}), "filters.size"),
    ],
)
def test_a_bad_query_is_refused_by_the_name_of_its_field(query, param):
    with pytest.raises(InvalidRequest) as refusal:
        check_query(query, LIMITS)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("document", "param"),
    [
        (Document(id=" ", text="a"), "id"),
        (Document(id="a" * 513, text="a"), "id"),
        (Document(id="..", text="a"), "id"),
        (Document(id="a\nb", text="a"), "id"),
        (Document(id="a"), "text"),
        (Document(id="a", text="\ud800"), "text"),
        (Document(id="a", images=[b""] * 3), "images"),
        (Document(id="a", text="a", metadata={"a": None}), "metadata.a"),
        (Document(id="a", text="a", metadata={"a": ["x"] * 65}), "metadata.a"),
        (Document(id="a", text="a", metadata={name: "ü" * 2_100 for name in "abcd"}), "metadata"),
    ],
)
def test_a_bad_document_is_refused_by_the_name_of_its_field(document, param):
    with pytest.raises(InvalidRequest) as refusal:
        check_document(document, LIMITS)
    assert refusal.value.param == param


def test_good_ones_pass():
    check_query(Query(text="What is the capital of Côte d’Ivoire?", filters={"a": [1, "x"], "b": True}), LIMITS)
    check_query(Query(image=b"bytes"), LIMITS)
    check_document(Document(id="a/ü#1", title="t", metadata={"tags": ["x", "y"]}), LIMITS)
    check_document(Document(id="a", title="t", metadata={name: "x" * 4_000 for name in "abcd"}), LIMITS)


def test_too_long_is_too_large():
    with pytest.raises(TooLarge):
        check_query(Query(text="x" * 101), LIMITS)


def test_a_filter_on_a_field_that_there_is_not_names_the_nearest():
    with pytest.raises(InvalidRequest, match="did you mean 'continent'"):
        check_filter_fields({"contnent": "Asia"}, ["area", "continent"])


@pytest.mark.parametrize("num_chars", [64, 199])
def test_names_made_to_be_hard_to_compare_take_no_time(num_chars):
    rng = random.Random(0)
    asked, *known = ["".join(rng.choices("ab", k=num_chars)) for _ in range(6_401)]
    began_s = time.process_time()
    with pytest.raises(InvalidRequest, match="no document has a metadata field"):
        check_filter_fields({asked: "x"}, known)
    assert time.process_time() - began_s < 0.2
