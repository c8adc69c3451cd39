"""What fusion adds to a plain T5: put in with closed gates, trained while the T5 stays as it is."""

from dataclasses import replace

import torch

from mmrag.decoder.checkpoint import Uninitialized
from mmrag.decoder.model import FusionModel
from mmrag.decoder.settings import DecoderModelConfig

FIRST_SHARE_BIAS = -3.0
"""A pointer copies one part in twenty before it has learned anything."""
FIRST_JOINT_GATE = 0.1


def with_additions(base: FusionModel, **changes) -> FusionModel:
    """The same model with evidence and a pointer; until they are trained it writes the same tokens.

    `changes`: fields of DecoderModelConfig, such as the widths of the embeddings. What of the additions the base
    already has is kept.
    """
    with torch.device(base.embedding.weight.device):
        model = FusionModel(replace(base.config, **{"evidence": True, "pointer": True} | changes))
    model.load_state_dict(base.state_dict(), strict=False, assign=True)
    return model.requires_grad_(False).eval()


def addition_names(model: FusionModel) -> set[str]:
    """The parameters that a plain T5 of this shape does not have."""
    with torch.device("meta"), Uninitialized():
        plain = FusionModel(plain_config(model.config))
    return {name for name, _ in model.named_parameters()} - {name for name, _ in plain.named_parameters()}


def plain_config(config: DecoderModelConfig) -> DecoderModelConfig:
    """The same shape without additions."""
    return replace(config, convolution_width=0, sentence_pooling=False, pointer=False, evidence=False, labels=[])


def let_learn(model: FusionModel) -> None:
    """Open those gates that would stay closed: one that is clamped at 0 has no slope once it falls below.

    The others start at zero and learn from there. Gates already opened are left alone.
    """
    with torch.no_grad():
        if model.pointer is not None and model.pointer.gate == 0:
            model.pointer.gate.fill_(1.0)
            model.pointer.share.weight.zero_()
            model.pointer.share.bias.fill_(FIRST_SHARE_BIAS)
        if hasattr(model, "joint_gate") and model.joint_gate == 0:
            model.joint_gate.fill_(FIRST_JOINT_GATE)
