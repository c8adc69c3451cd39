import pytest

from mmrag.evaluation import (
    Row,
    as_columns,
    as_markdown,
    exact_match,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank,
    token_f1,
)


def test_measures_of_a_ranking_by_hand():
    ranked, relevant = ["a", "b", "c", "d"], {"b", "d"}
    assert recall_at_k(ranked, relevant, 1) == 0
    assert recall_at_k(ranked, relevant, 2) == 0.5
    assert reciprocal_rank(ranked, relevant) == 0.5
    assert reciprocal_rank(["a"], relevant) == 0
    # (1/log2(3) + 1/log2(5)) / (1/log2(2) + 1/log2(3))
    assert ndcg_at_k(ranked, relevant, 4) == pytest.approx(0.6509, abs=1e-4)


def test_exact_match_forgives_case_and_space_but_not_accents_or_digits():
    assert exact_match(" lima. ", ["Lima"])
    assert exact_match("1,285,216 km²", ["1,285,216 km²"])
    assert not exact_match("Sao Tomé", ["São Tomé"])
    assert not exact_match("1,285,217", ["1,285,216"])
    assert not exact_match("", ["Lima"])


def test_f1_counts_shared_words():
    assert token_f1("Spanish and Quechua", ["Spanish, Quechua", "Spanish and Quechua"]) == 1
    assert token_f1("Quechua", ["Spanish Quechua"]) == pytest.approx(2 / 3)
    assert token_f1("x", ["y"]) == 0


def test_a_row_knows_whether_its_must_is_met():
    assert Row("a", 0.95, 10, at_least=0.95).is_met
    assert not Row("a", 0.949, 10, at_least=0.95).is_met
    assert not Row("a", 0.2, 10, at_most=0.1).is_met
    assert not Row("nothing was measured", 1.0, 0, at_least=0.5).is_met
    assert "| a | 94.9 % | 10 | ≥ 95 % | ✗ missed |" in as_markdown([Row("a", 0.949, 10, at_least=0.95)])


def test_things_measured_alike_stand_side_by_side():
    dot = [Row("named", 0.5, 20), Row("shown", 0.25, 8)]
    rows = {"dot": dot, "scaled": [Row("named", 1.0, 20), Row("shown", 0, 8)]}
    assert as_columns(rows).splitlines() == [
        "| | named (20) | shown (8) |",
        "|---|---|---|",
        "| dot | 50.0 % | 25.0 % |",
        "| scaled | 100.0 % | 0.0 % |",
    ]
