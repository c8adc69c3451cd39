"""Where to train."""

import torch


def best_device() -> str:
    """A GPU where there is one, else the processor."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_kind(device: str) -> str:
    """`cuda` of `cuda:1`: what autocast asks for."""
    return torch.device(device).type
