import functools

import pytest
import torch
from training.averaging import fail, fail_elsewhere, fit

from mmrag.training.processes import run_on_all


def test_processes_go_the_way_of_their_mean_gradient(tmp_path):
    run_on_all(2, functools.partial(fit, tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first["values"] == second["values"] == pytest.approx([0.5, 1.0], abs=1e-4)
    assert first["is_first"] and not second["is_first"]


def test_one_process_is_a_plain_call(tmp_path):
    run_on_all(1, functools.partial(fit, tmp_path))
    assert torch.load(tmp_path / "0.pt")["values"] == pytest.approx([0.0, 1.0], abs=1e-4)


def test_what_fails_is_raised():
    with pytest.raises(ValueError, match="rank 0"):
        run_on_all(2, fail)


def test_another_process_that_fails_is_noticed():
    with pytest.raises(RuntimeError, match=r"\[1\] failed"):
        run_on_all(2, fail_elsewhere)
