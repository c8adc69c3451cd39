import pytest

from mmrag.retrieval.rank_fusion import fuse, ranks


def test_scores_are_weighted_reciprocal_ranks():
    rankings = {"words": {"a": 1, "b": 2}, "vectors": {"b": 1, "c": 3}}
    first, second, third = fuse(rankings, {"words": 1.0, "vectors": 2.0}, rank_constant=60)
    assert (first.key, first.ranks) == ("b", {"words": 2, "vectors": 1})
    assert first.score == pytest.approx(1 / 62 + 2 / 61)
    assert (second.key, second.score) == ("c", pytest.approx(2 / 63))
    assert (third.key, third.score) == ("a", pytest.approx(1 / 61))


def test_equal_scores_share_the_better_rank():
    assert ranks([("a", 3.0), ("b", 5.0), ("c", 3.0), ("d", 1.0)]) == {"b": 1, "a": 2, "c": 2, "d": 4}


def test_a_key_found_twice_counts_once():
    assert ranks([("a", 3.0), ("b", 2.0), ("a", 1.0), ("c", 0.5)]) == {"a": 1, "b": 2, "c": 3}
