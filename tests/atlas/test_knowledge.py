import json
import re
from pathlib import Path

import pytest

from mmrag.images import decode_image

ATLAS = Path(__file__).parents[2] / "atlas"


def _lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (ATLAS / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def documents():
    return {document["id"]: document for document in _lines("knowledge.jsonl")}


def test_every_fact_stands_in_its_document(documents):
    for facts in _lines("facts.jsonl"):
        document = documents[facts["document_id"]]
        said = f"{document['title']}. {document['text']}"
        missing = [value for value in facts["values"].values() if value not in said]
        assert not missing, (facts["document_id"], missing)


def test_every_document_names_its_subject(documents):
    for facts in _lines("facts.jsonl"):
        text = documents[facts["document_id"]]["text"]
        assert facts["name"].removeprefix("the ") in text


def test_the_prose_is_clean(documents):
    ugly = re.compile(r"[{}|\[\]]|  |\.\.|\bthe the\b|\bThe the\b|’| ,| \.$|&")
    found = [(id, match[0]) for id, document in documents.items() if (match := ugly.search(document["text"]))]
    assert not found


def test_countries_are_told_in_many_ways(documents):
    texts = [document["text"] for id, document in documents.items() if id.startswith("country-")]
    openings = {re.sub(r"[A-Z][\w'-]+", "", text.split(". ")[0]) for text in texts}
    assert len(openings) > 60


WITHOUT_A_FLAG_OF_THEIR_OWN = {f"country-{code}" for code in ("bv", "hm", "mf", "sj", "um")}


def test_every_document_has_its_picture_and_no_other_document_the_same(documents):
    assert len(documents) > 1600
    for id, document in documents.items():
        assert document["images"] == ([] if id in WITHOUT_A_FLAG_OF_THEIR_OWN else [f"images/{id}.png"])
    pictures = [(ATLAS / path).read_bytes() for document in documents.values() for path in document["images"]]
    assert len(set(pictures)) == len(pictures)
    picture = decode_image((ATLAS / "images" / "country-pe.png").read_bytes())
    assert picture.shape == (128, 136, 4)


def test_labels_tell_continent_and_category(documents):
    classes = json.loads((ATLAS / "schema.json").read_text(encoding="utf-8"))["classify"]
    for id, document in documents.items():
        kind = "continent" if id.startswith("country-") else "category"
        assert document["labels"][0] in classes[kind]


def test_descriptions_are_not_in_the_knowledge_base(documents):
    told = "\n".join(document["text"] for document in documents.values()).lower()
    descriptions = _lines("descriptions.jsonl")
    assert len(descriptions) > 500
    for line in descriptions:
        assert line["document_id"] in documents
        assert len(re.findall(r"\w+", line["description"])) > 1
        assert line["description"].lower() not in told
