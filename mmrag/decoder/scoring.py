"""How likely a sequence is to write each of some answers: the way to choose among a caller's labels."""

import torch
from torch import Tensor

from mmrag.decoder.model import FusionModel, State


def likelihoods(model: FusionModel, state: State, targets: list[list[int]]) -> list[float]:
    """Log-likelihood of each sequence of tokens after a fresh state [1], whose evidence they all read."""
    given, wanted, real = (tensor.to(state.source.ids.device) for tensor in teacher_forced(model, targets))
    log_probabilities, _, _ = model.target_log_probabilities(given, wanted, real, state)
    return log_probabilities.sum(1).tolist()


def teacher_forced(model: FusionModel, targets: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """What the decoder is given, what it should write next, and where that is real; [n, T] each."""
    lengths = torch.tensor([len(target) for target in targets])
    wanted = torch.full((len(targets), int(lengths.max())), model.config.pad_id)
    for i, target in enumerate(targets):
        wanted[i, : len(target)] = torch.tensor(target)
    given = torch.cat([torch.full_like(wanted[:, :1], model.config.start_id), wanted[:, :-1]], 1)
    return given, wanted, torch.arange(wanted.shape[1]) < lengths[:, None]
