"""What is asked in the evaluation: held-out things only, each with the answers that count."""

import json

import pytest

from atlas.asking import matches, recall
from atlas.evaluate_variants import evaluate_variants
from atlas.splits import read_splits
from atlas.train_decoder import VARIANTS, model_config
from atlas.trials import ATLAS, Trial, country_trials, description_trials, drawn_by_others, invented_countries
from mmrag.errors import ConfigurationError
from mmrag.types import Answer, Passage, Query


@pytest.fixture(scope="module")
def shown() -> list[Trial]:
    return country_trials("shown", one_in=16)


def test_only_held_out_countries_are_asked_about(shown):
    held_out = set(read_splits()["countries"]["test"])
    for form, trials in (("named", country_trials("named")), ("shown", shown)):
        asked = set().union(*(trial.documents for trial in trials))
        assert asked <= held_out and len(asked) > 20
        assert all((trial.query.image is not None) == (form == "shown") and trial.accepted for trial in trials)


def test_another_artists_flag_takes_the_place_of_the_photograph(shown):
    drawn = drawn_by_others(shown)
    assert 0 < len(drawn) <= len(shown)
    for trial in drawn:
        [document_id] = trial.documents
        assert trial.query.image == (ATLAS / "heldout" / "cif" / f"{document_id}.png").read_bytes()


def test_descriptions_are_of_held_out_emoji_and_not_in_the_knowledge_base():
    texts = (ATLAS / "knowledge.jsonl").read_text(encoding="utf-8").lower()
    trials = description_trials()
    assert set().union(*(trial.documents for trial in trials)) <= set(read_splits()["emoji"]["test"])
    assert not [trial.query.text for trial in trials if json.dumps(trial.query.text.lower())[1:-1] in texts]


def test_invented_countries_hold_the_answers_to_their_questions():
    known = {line["title"] for line in map(json.loads, (ATLAS / "knowledge.jsonl").read_text().splitlines())}
    for country in invented_countries(2):
        assert country.document.title not in known and len(country.document.images) == 1
        assert country.named and country.shown
        for trial in [*country.named, *country.shown]:
            assert trial.documents == {country.document.id}
            assert trial.accepted[0] in f"{country.document.title}. {country.document.text}"


def test_scores_by_hand():
    trials = [Trial(Query(text="a"), ["Lima"], {"pe"}), Trial(Query(text="b"), ["Hanoi", "Ha Noi"], {"vn"})]
    found = [Passage("x#0", "x"), Passage("vn#0", "vn")]
    answers = [Answer("1", "lima.", []), Answer("2", "Hue", found)]
    assert matches(trials, answers) == 0.5
    assert recall(trials, answers, 1) == 0 and recall(trials, answers, 2) == 0.5
    assert matches([], []) == 0


def test_variants_differ_in_what_they_are_named_after(tmp_path):
    configs = {name: model_config(9, name) for name in VARIANTS}
    shapes = {name: (config.fusion, config.scores, config.pointer) for name, config in configs.items()}
    assert shapes["cross_modal_scaled"] == ("cross_modal", "scaled_dot", True)
    assert shapes["no_pointer"] == ("dual_stream", "dot", False)
    assert len(set(shapes.values())) == len(VARIANTS) == 5
    with pytest.raises(ConfigurationError, match="train_variants"):
        evaluate_variants(tmp_path)
