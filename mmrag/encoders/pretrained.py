"""Towers made from somebody else's backbone: torchvision weights or a Hugging Face checkpoint.

Their projection into the space of the texts is random until `train_image_tower` has trained it: pictures find
pictures (a random projection keeps angles: Johnson & Lindenstrauss 1984), texts do not find pictures yet.
"""

import json
from pathlib import Path

import torch

from mmrag.encoders.tokenizer import model_directory
from mmrag.encoders.tower import ImageTower, TowerConfig
from mmrag.errors import ConfigurationError


def torchvision_tower(name: str) -> ImageTower:
    """`resnet50` with the published weights (downloaded once), or `resnet50@FILE` with a `state_dict` from a file.

    Raises:
        ConfigurationError: an unknown backbone, or no such file.
    """
    name, _, file = name.partition("@")
    side_px = 299 if name == "inception_v3" else 224
    tower = _projected_at_random({"kind": "torchvision", "name": name}, side_px)
    tower.backbone.load_weights(_read_weights(Path(file)) if file else _published_weights(name))
    return tower


def _read_weights(file: Path) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise ConfigurationError(f"no weights in {file}")
    return torch.load(file, map_location="cpu", weights_only=True)


def _published_weights(name: str) -> dict[str, torch.Tensor]:
    from torchvision import models

    return models.get_model_weights(name).DEFAULT.get_state_dict(progress=True, check_hash=True)


def hugging_face_tower(name: str) -> ImageTower:
    """A vision tower, or the vision half of a CLIP or SigLIP model, from a directory or by name.

    Raises:
        ConfigurationError: there is no such checkpoint, or it does not see.
    """
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(name)
        config = getattr(config, "vision_config", config)
        if not hasattr(config, "num_channels"):
            raise ConfigurationError(f"{name!r} is a {config.model_type} model, which has no vision tower")
        model = AutoModel.from_pretrained(name, config=config)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no image encoder at {name!r}: {error}") from error
    mean, std = _pixel_statistics(name)
    backbone = {"kind": "huggingface", "config": json.loads(config.to_json_string(use_diff=False))}
    side_px = getattr(config, "image_size", 224)
    tower = _projected_at_random(backbone | {"mean": mean, "std": std}, side_px)
    tower.backbone.model.load_state_dict(model.state_dict())
    return tower


def _pixel_statistics(name: str) -> tuple[list[float], list[float]]:
    file = model_directory(name) / "preprocessor_config.json"
    stored = json.loads(file.read_text()) if file.is_file() else {}
    return stored.get("image_mean", [0.5] * 3), stored.get("image_std", [0.5] * 3)


def _projected_at_random(backbone: dict, side_px: int) -> ImageTower:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ImageTower(TowerConfig(backbone, side_px=side_px))
