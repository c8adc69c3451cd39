import json
import random
from pathlib import Path

import numpy as np
import pytest

from atlas.invented import document_of, invent_country, invent_flag, invent_generic, invent_name, invent_thing
from atlas.wording import load_schema
from atlas.words import UNFIT

ATLAS = Path(__file__).parents[2] / "atlas"


@pytest.mark.parametrize("invent", [invent_country, invent_thing])
@pytest.mark.parametrize("key", ["facts", "unseen_facts"])
def test_the_document_states_every_fact(invent, key):
    rng = random.Random(1)
    for _ in range(300):
        entity = invent(rng)
        document = document_of(rng, entity, key)
        said = f"{document['title']}. {document['text']}"
        assert all(value in said for value in entity.values.values()), (entity.values, said)
        assert "{" not in said and "|" not in said


def test_unseen_wordings_are_not_those_of_training():
    rng = random.Random(2)
    country = invent_country(rng)
    seen = load_schema()["kinds"]["country"]["attributes"]
    told = document_of(rng, country, "unseen_facts")["text"]
    for attribute, value in country.values.items():
        for fact in seen[attribute].get("facts", []):
            assert fact.replace("{value}", value).replace("{name}", country.name) not in told


def test_worlds_are_fresh_and_repeatable():
    names = {invent_country(random.Random(seed)).title for seed in range(500)}
    assert len(names) > 480
    assert invent_country(random.Random(7)) == invent_country(random.Random(7))
    assert invent_name(random.Random(7)) == invent_name(random.Random(7))


def test_labels_are_those_the_classifier_knows():
    rng, classes = random.Random(3), load_schema()["classify"]
    assert all(invent_country(rng).labels[0] in classes["continent"] for _ in range(100))
    assert all(invent_thing(rng).labels[0] in classes["category"] for _ in range(100))


def test_flags_can_be_told_apart():
    rng = random.Random(4)
    flags = np.stack([invent_flag(rng) for _ in range(250)])
    assert flags.shape == (250, 96, 128, 3) and flags.dtype == np.uint8
    small = flags[:, ::6, ::8].reshape(250, -1).astype(np.float64)
    distances = np.sqrt(((small[:, None] - small) ** 2).mean(axis=-1))
    assert np.median(np.partition(distances, 1, axis=1)[:, 1]) > 40
    assert (distances[np.triu_indices(250, 1)] > 10).all()
    assert np.array_equal(invent_flag(random.Random(5)), invent_flag(random.Random(5)))


@pytest.mark.parametrize("form", ["named", "shown"])
def test_generic_pages_hold_their_answer(form):
    rng = random.Random(6)
    for _ in range(300):
        page = invent_generic(rng)
        assert page.answer in page.text
        question = page.ask(rng, form)
        assert page.attribute in question
        assert (page.title.lower() in question.lower()) == (form == "named")


def test_no_invented_thing_is_made_of_unfit_words():
    words = {word for part in json.loads((ATLAS / "words.json").read_text()).values() for word in part.split()}
    assert len(words) > 10_000
    assert not [word for word in words if UNFIT.search(word)]
    assert all(UNFIT.search(word) for word in ("sadistic", "pimp", "torturing", "damn"))
    assert not any(UNFIT.search(word) for word in ("assembly", "class", "cockpit", "spicy"))
