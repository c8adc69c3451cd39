import pytest
import torch

from mmrag.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(64, 64), (48, 160), (160, 48)])
def test_steps_are_those_of_pytorch(shape):
    ours, theirs = (torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1))) for _ in "ab")
    before = ours.detach().clone()
    mine = Muon([ours], lr=0.01, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for seed in range(4):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(10 + seed))
        ours.grad, theirs.grad = gradient, gradient.clone()
        mine.step(), reference.step()
    # PyTorch's is computed in bfloat16.
    torch.testing.assert_close(ours - before, theirs - before, rtol=0.05, atol=0.05 * (theirs - before).std().item())
    assert mine.state_dict()["state"][0].keys() == reference.state_dict()["state"][0].keys()


def test_an_update_has_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonal(torch.randn(48, 160, generator=torch.Generator().manual_seed(3))))
    assert values.min() > 0.6 and values.max() < 1.3
