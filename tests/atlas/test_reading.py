"""The examples the decoder learns from: answerable, varied, and not the same twice."""

import random
from collections import Counter

import numpy as np
import pytest

from atlas.layouts import write_text
from atlas.question_frames import combined, is_near, whole
from atlas.questions_seen import (
    Wording,
    combined_for,
    generic_templates,
    of_the_test,
    split,
    train_templates,
    written,
)
from atlas.reading import KINDS_OF_QUESTION, ReadingExamples
from atlas.retrieved import Noted, RetrievedExamples
from atlas.wording import load_schema
from mmrag.training.data import UNKNOWN, blur_words, mentions
from mmrag.types import DecodeRequest


class PlainWordings:
    """The train wordings without the text encoder: their states are random."""

    def __init__(self):
        self.groups = {key: [(t, "") for t in templates] for key, templates in train_templates().items()}
        self.groups |= generic_templates(held_back=False)
        self.states = np.random.default_rng(0).standard_normal((3, 4, 384)).astype(np.float16)

    def choose(self, rng: random.Random, *key: str) -> Wording:
        template, attribute = rng.choice(self.groups[key])
        return Wording(template, self.states, attribute)


@pytest.fixture(scope="module")
def examples() -> ReadingExamples:
    return ReadingExamples(0, PlainWordings(), progress=1.0)


@pytest.mark.parametrize("kind", KINDS_OF_QUESTION)
def test_the_answer_stands_in_the_right_passage(examples, kind):
    for _ in range(15):
        example = examples.example(kind)
        if example.gold < 0:
            assert example.target == UNKNOWN or example.request.task == "classify"
            continue
        passage = example.request.passages[example.gold]
        assert example.target in f"{passage.title}\n{passage.text}"
        assert len(example.request.passages) <= 8


def test_borrowed_facts_are_real_and_of_many_things(examples):
    real = {value for entity in examples.real["country"] for value in entity.values.values()}
    shares = []
    for _ in range(200):
        values = examples.entity("country").values
        assert values["name"] not in real
        shares.append(sum(values[name] in real for name in values if name not in ("continent", "region")) / len(values))
    assert 0.1 < np.mean([share > 0.2 for share in shares]) < 0.6
    assert max(shares) > 0.4


def test_what_misleads_keeps_its_facts_and_what_answers_never_does(examples):
    entities = examples.real
    ids = [entities["country"][0].id, entities["country"][1].id, entities["emoji"][0].id]
    noted = Noted("country named", ids[0], "capital", DecodeRequest("?", None, None, None, []))
    retrieved = RetrievedExamples([noted], examples)
    facts = {id: retrieved.entities[id].values for id in ids}
    kept = [[retrieved.told_by(retrieved.entities[id], noted).values == facts[id] for id in ids] for _ in range(40)]
    assert not np.any(np.array(kept)[:, :2])
    assert 0.2 < np.mean(np.array(kept)[:, 2]) < 0.8


def test_questions_show_or_name_what_they_are_about(examples):
    for _ in range(20):
        shown, named = examples.example("country shown"), examples.example("country named")
        assert shown.request.image_embedding is not None and named.request.image_embedding is None
        assert all("image_image" not in passage.similarities for passage in named.request.passages)
    assert examples.example("picture alone").request.text is None


def test_it_begins_with_one_short_passage():
    beginning = ReadingExamples(1, PlainWordings(), progress=0.0)
    drawn = [next(beginning) for _ in range(60)]
    assert max(len(example.request.passages) for example in drawn) == 1


def test_no_two_examples_are_alike_and_some_have_no_answer(examples):
    drawn = [next(examples) for _ in range(300)]
    passages = [passage for example in drawn for passage in example.request.passages]
    texts = Counter(passage.text for passage in passages if len(passage.text) > 80)
    assert texts.most_common(1)[0][1] == 1
    assert 0.05 < np.mean([example.target == UNKNOWN for example in drawn]) < 0.25


def test_held_back_wordings_are_never_trained_on():
    for key, templates in written().items():
        assert not set(split(templates, held_back=True)) & set(split(templates, held_back=False))
        assert set(split(templates, True)) | set(split(templates, False)) == set(templates)
        assert not set(templates) & set(combined_for(key))


def test_what_shares_most_words_with_another_is_near_it():
    assert is_near("What is the capital of {name}?", ["who rules it", "what is the capital city of {name}"])
    assert not is_near("Where does the parliament of {name} meet?", ["What is the capital of {name}?"])


@pytest.mark.parametrize("key", [key for key in written() if key[0] == "country" and key[1] != "name"])
def test_there_are_many_wordings_and_none_is_near_those_of_the_test(key):
    tests = of_the_test(load_schema()["kinds"]["country"]["attributes"][key[1]])
    made, way = train_templates()[key], key[2]
    assert tests and all(is_near(test, tests) for test in tests)
    assert not any(is_near(template, tests) for template in made)
    assert len(made) == len(set(made)) > 1_200 and len(set(made) & set(whole(*key[1:]))) > 300
    assert all(("{name}" in template or "{names}" in template) == (way == "named") for template in made)
    assert not any("{thing}" in template or "{name}'s" in template for template in made)


def test_wordings_are_the_same_each_time_and_only_countries_have_combined_ones():
    assert combined("capital", "named") == combined.__wrapped__("capital", "named")
    assert combined_for(("emoji", "meaning", "shown")) == []


def test_no_test_wording_is_used():
    used = {template for templates in train_templates().values() for template in templates}
    schema = load_schema()
    for kind in schema["kinds"].values():
        for attribute in kind["attributes"].values():
            for templates in attribute.get("questions", {}).get("test", {}).values():
                assert not used & set(templates)


def test_every_layout_states_every_fact():
    values = {"name": "Kora", "capital": "Lume", "domain": ".kq", "population": "12,345"}
    for seed in range(40):
        text = write_text(random.Random(seed), "country", "Kora", values)
        assert all(values[attribute] in text for attribute in ("capital", "domain", "population")), text


def test_blurred_words_are_words_of_the_question():
    rng = np.random.default_rng(0)
    blurred = [blur_words("what is the capital of Kora", rng) for _ in range(200)]
    assert "" in blurred and "what is the capital of Kora" in blurred
    assert all(set(text.split()) <= set(["what", "is", "the", "capital", "of", "Kora"]) for text in blurred)


def test_a_title_in_the_question_is_noticed():
    assert mentions("What is the capital of South Kora?", ["Kora"])
    assert not mentions("What is the capital of Koran?", ["Kora", ""])
