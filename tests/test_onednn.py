"""Products of packed weights are those of the weights, however many rows there are."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from mmrag import onednn

pytestmark = pytest.mark.skipif(not onednn.is_there("cpu"), reason="this PyTorch has no oneDNN")


@pytest.mark.parametrize("shape", [(1,), (3,), (33,), (129,), (2, 50), (1, 1000)])
@pytest.mark.parametrize("then", ["none", "gelu"])
def test_a_product_is_that_of_the_weights(shape, then):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(*shape, 48), torch.randn(24, 48), torch.randn(24)
    expected = F.linear(x, weight, bias)
    found = onednn.product(x, onednn.packed(weight, 16), bias, then)
    torch.testing.assert_close(found, F.gelu(expected) if then == "gelu" else expected, atol=1e-4, rtol=1e-4)


def test_a_row_is_the_same_among_any_number_of_others():
    torch.manual_seed(0)
    x, weight = torch.randn(700, 192), onednn.packed(torch.randn(64, 192), 16)
    alike = onednn.product(x, weight, None)
    for num in (32, 33, 100, 150, 321):
        assert torch.equal(onednn.product(x[:num], weight, None), alike[:num])


def test_few_numbers_of_rows_are_ever_computed(monkeypatch):
    assert all(num <= onednn.filled(num) <= num + 31 for num in range(1, 4_096))
    assert all(onednn.filled(num) <= 1.25 * num for num in range(1, 4_096))
    assert len({onednn.filled(num) for num in range(1, 2_049)}) < 110
    num_rows = set()
    operators = SimpleNamespace(_linear_pointwise=lambda x, *rest: num_rows.add(len(x)) or x)
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    for num in range(1, 300):
        assert onednn.product(torch.ones(num, 8), torch.ones(8, 8), None).shape == (num, 8)
    assert num_rows == {onednn.filled(num) for num in range(1, 300)}
