import json
import random
from pathlib import Path

import pytest

from atlas.invented import document_of, invent_country
from atlas.questions import SEAT_ELSEWHERE, SEAT_WORDS, atlas_questions, questions_about, read_entities
from atlas.splits import read_splits
from atlas.wording import load_schema

ATLAS = Path(__file__).parents[2] / "atlas"


@pytest.fixture(scope="module")
def documents():
    lines = (ATLAS / "knowledge.jsonl").read_text(encoding="utf-8").splitlines()
    return {document["id"]: document for document in map(json.loads, lines)}


@pytest.mark.parametrize("form", ["named", "shown"])
@pytest.mark.parametrize("kinds", [("country",), ("emoji",)])
def test_the_answer_stands_in_the_document(documents, form, kinds):
    questions = atlas_questions(ATLAS, form=form, kinds=kinds)
    assert len(questions) > 400
    for question in questions:
        document = documents[question.document_id]
        assert question.answer in f"{document['title']}. {document['text']}"
        assert question.answer in question.accepted
        assert question.image_document_id == (question.document_id if form == "shown" else None)


def test_only_the_wanted_side_and_wordings_are_asked():
    test = set(read_splits()["countries"]["test"])
    assert {question.document_id for question in atlas_questions(ATLAS, "test")} == test
    assert not test & {question.document_id for question in atlas_questions(ATLAS, "train")}


def test_named_questions_name_and_shown_ones_do_not():
    names = {entity.id: entity.name.lower() for entity in read_entities(ATLAS)}
    assert all(names[q.document_id] in q.text.lower() for q in atlas_questions(ATLAS, form="named"))
    shown = atlas_questions(ATLAS, form="shown")
    assert not [q.text for q in shown if names[q.document_id] in q.text.lower() and len(names[q.document_id]) > 4]


def test_the_seed_decides():
    assert atlas_questions(ATLAS, seed=3) == atlas_questions(ATLAS, seed=3)
    assert atlas_questions(ATLAS, seed=3) != atlas_questions(ATLAS, seed=4)
    assert len(atlas_questions(ATLAS, per_entity=2)) == 2 * 47


def test_identical_flags_accept_each_other():
    questions = atlas_questions(ATLAS, None, "shown")
    france = next(q for q in questions if q.document_id == "country-fr" and q.attribute == "name")
    assert "Saint Martin" in france.accepted
    named = next(q for q in atlas_questions(ATLAS, None) if q.document_id == "country-fr" and q.attribute == "capital")
    assert "Marigot" not in named.accepted


def test_the_seat_of_government_is_not_asked_where_it_is_not_the_capital():
    for seed in range(5):
        for question in atlas_questions(ATLAS, None, seed=seed, wordings="train"):
            if question.document_id in SEAT_ELSEWHERE and question.attribute == "capital":
                assert not any(word in question.text for word in SEAT_WORDS)


def test_invented_countries_are_asked_about_like_real_ones():
    rng = random.Random(0)
    country = invent_country(rng)
    text = document_of(rng, country)["text"]
    questions = list(questions_about(rng, country, "named"))
    assert {question.attribute for question in questions} == set(country.values) - {"name"}
    assert all(question.answer in text for question in questions)


def test_wordings_come_from_the_wanted_side():
    asked = {question.text for question in atlas_questions(ATLAS, form="shown", wordings="test")}
    attributes = load_schema()["kinds"]["country"]["attributes"]
    test = {text for entry in attributes.values() for text in entry["questions"]["test"]["shown"]}
    assert asked <= test | {text.lower() for text in test}
