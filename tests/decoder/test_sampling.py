"""Draws follow the probabilities they are given, within top-k and top-p."""

import pytest
import torch

from mmrag.decoder.sampling import Sampler, next_tokens
from mmrag.types import Sampling

PROBABILITIES = torch.tensor([0.05, 0.5, 0.2, 0.25])


def shares(num=4_000, **how) -> list[float]:
    sampler = Sampler(Sampling(**{"temperature": 1.0, "seed": 11} | how))
    drawn = [sampler.draw(PROBABILITIES.log()) for _ in range(num)]
    return [drawn.count(token) / num for token in range(4)]


def test_draws_follow_the_probabilities():
    assert shares() == pytest.approx(PROBABILITIES.tolist(), abs=0.03)


def test_temperature_sharpens_and_flattens():
    sharp = PROBABILITIES**2 / (PROBABILITIES**2).sum()
    assert shares(temperature=0.5) == pytest.approx(sharp.tolist(), abs=0.03)


def test_top_k_and_top_p_leave_out_the_unlikely():
    assert shares(top_k=2) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=0.03)
    assert shares(top_p=0.5) == [0, 1, 0, 0]
    assert shares(top_p=0.7) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=0.03)


def test_each_row_is_chosen_in_its_own_way_from_logits_or_probabilities():
    rows = torch.stack([PROBABILITIES] * 3)
    samplers = [Sampler(Sampling()), Sampler(Sampling(temperature=1.0, top_k=1, seed=1))]
    assert next_tokens(rows, [0, 0], samplers, are_logarithms=False) == [1, 1]
    assert next_tokens(rows.log(), [0, 0], samplers, are_logarithms=True) == [1, 1]


def test_seeds_draw_alike_from_logits_and_probabilities():
    first, second = (Sampler(Sampling(temperature=1.0, seed=3)) for _ in range(2))
    for _ in range(50):
        [a] = next_tokens(PROBABILITIES[None], [0], [first], are_logarithms=False)
        [b] = next_tokens(PROBABILITIES.log()[None] + 5, [0], [second], are_logarithms=True)
        assert a == b


@pytest.mark.parametrize("temperature", [0.0, 1e-46, 1e-9])
def test_next_to_no_temperature_is_none(temperature):
    sampler = Sampler(Sampling(temperature=temperature, seed=1))
    for rows, are_logarithms in ((PROBABILITIES, False), (PROBABILITIES.log(), True)):
        assert next_tokens(rows[None], [0], [sampler], are_logarithms) == [1]
