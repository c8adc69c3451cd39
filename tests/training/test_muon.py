import copy

import pytest
import torch

from mmrag import bfloat16
from mmrag.training.muon import Muon, orthogonal


def matrix(shape: tuple[int, int], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("is_faster", [True, False])
@pytest.mark.parametrize("shape", [(64, 64), (48, 160), (160, 48)])
def test_steps_are_those_of_pytorch_whose_checkpoints_load(shape, is_faster, monkeypatch):
    monkeypatch.setattr(bfloat16, "is_faster", lambda device: is_faster)
    ours, theirs = (torch.nn.Parameter(matrix(shape, 1)) for _ in "ab")
    mine = Muon([ours], lr=0.01, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for seed in range(6):
        ours.grad, theirs.grad = matrix(shape, 10 + seed), matrix(shape, 10 + seed)
        if seed == 3:
            mine.load_state_dict(copy.deepcopy(reference.state_dict()))
        mine.step(), reference.step()
    moved = theirs - matrix(shape, 1)
    # PyTorch's is computed in bfloat16.
    torch.testing.assert_close(ours - matrix(shape, 1), moved, rtol=0.05, atol=0.05 * moved.std().item())


@pytest.mark.parametrize("is_faster", [True, False])
def test_an_update_is_multiplied_in_what_is_faster(is_faster, monkeypatch):
    monkeypatch.setattr(bfloat16, "is_faster", lambda device: is_faster)
    update = orthogonal(matrix((48, 160), 3))
    assert update.dtype == torch.float32
    assert torch.equal(update, update.bfloat16().float()) == is_faster


def test_directions_that_hardly_matter_are_learned_too():
    values = 10.0 ** -torch.arange(0, 3, 3 / 48)  # a thousandth to 1
    directions = torch.linalg.qr(matrix((160, 48), 5)).Q.T
    update = orthogonal(values[:, None] * directions)
    assert torch.linalg.svdvals(update).min() > 0.2
