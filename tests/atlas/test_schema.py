import re

import pytest

from atlas.wording import load_schema

BLANKS = {"name", "names", "value"}


def _wordings():
    for kind, entry in load_schema()["kinds"].items():
        for attribute, about in entry["attributes"].items():
            for form in about["questions"]["train"]:
                yield kind, attribute, form, about["questions"]["train"][form], about["questions"]["test"][form]


@pytest.mark.parametrize("kind, attribute, form, train, test", list(_wordings()))
def test_there_are_many_wordings_and_test_wordings_are_other_sentences(kind, attribute, form, train, test):
    assert len(set(train)) == len(train) >= 30
    assert len(set(test)) == len(test) >= 8
    trained_on = {_bag(wording) for wording in train}
    assert not [wording for wording in test if _bag(wording) in trained_on]


@pytest.mark.parametrize("kind, attribute, form, train, test", list(_wordings()))
def test_a_wording_names_the_entity_only_where_it_should(kind, attribute, form, train, test):
    for wording in train + test:
        blanks = set(re.findall(r"{(\w+)}", wording))
        assert blanks <= {"name", "names"}
        assert bool(blanks) == (form == "named"), wording


def test_facts_state_their_value():
    for kind, entry in load_schema()["kinds"].items():
        for attribute, about in entry["attributes"].items():
            for fact in about.get("facts", []) + about.get("unseen_facts", []):
                blanks = set(re.findall(r"{(\w+)}", fact))
                assert ("name" if attribute == "name" else "value") in blanks, fact
                assert blanks <= BLANKS, fact
            seen, unseen = set(about.get("facts", [])), set(about.get("unseen_facts", []))
            assert not seen & unseen
            assert kind != "country" or attribute == "name" or len(seen) >= 8


def test_captions_are_split_too():
    captions = load_schema()["captions"]
    assert not {_bag(text) for text in captions["train"]} & {_bag(text) for text in captions["test"]}


def _bag(wording: str) -> frozenset[str]:
    return frozenset(re.findall(r"[\w{}']+", wording.lower()))
