"""Feature extractors for images.

Each `forward` takes float32 [n, 3, side, side] in 0..1 and returns a map [n, `channels`, height, width] of features.
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmrag.errors import ConfigurationError


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2015, with average pooling in the shortcut)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(out_channels)
        shortcut = [nn.AvgPool2d(stride)] if stride > 1 else []
        if in_channels != out_channels:
            shortcut += [nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(maps)))
        return F.relu(self.shortcut(maps) + self.second_norm(self.second(inner)))


class ResidualNetwork(nn.Module):
    """Our own small network: a strided stem, then one block for each width, halving the side after the first."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.channels = widths[-1]
        stem = [nn.Conv2d(3, widths[0], 4, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        blocks = [
            ResidualBlock(before, after, 1 if index == 0 else 2)
            for index, (before, after) in enumerate(zip([widths[0], *widths[:-1]], widths, strict=True))
        ]
        self.layers = nn.Sequential(*stem, *blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers((pixels - 0.5) * 4)


class TorchvisionBackbone(nn.Module):
    """A torchvision resnet*, vgg* or inception_v3 without its classifier, fed as its published weights expect."""

    def __init__(self, name: str):
        super().__init__()
        model = _torchvision_model(name)
        self.channels = 512 if name.startswith("vgg") else model.fc.in_features
        dropped = ("avgpool", "dropout", "fc", "AuxLogits", "classifier")
        kept = OrderedDict((label, part) for label, part in model.named_children() if label not in dropped)
        self.features = nn.Sequential(kept)
        if name == "inception_v3":
            self.normalise = Normalise([0.5] * 3, [0.5] * 3)
        else:
            self.normalise = Normalise([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Take over a torchvision `state_dict`; its classifier is left out."""
        kept = {key: value for key, value in state.items() if hasattr(self.features, key.partition(".")[0])}
        self.features.load_state_dict(kept)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.features(self.normalise(pixels))


class HuggingFaceBackbone(nn.Module):
    """Any vision tower of `transformers` (ViT, CLIP or SigLIP vision, ResNet); `config` is its own, with model_type.

    The patch tokens of a transformer are laid out again as the map they were cut from.
    """

    def __init__(self, config: dict, mean: list[float], std: list[float]):
        super().__init__()
        from transformers import AutoConfig, AutoModel

        options = {key: value for key, value in config.items() if key != "model_type"}
        self.model = AutoModel.from_config(AutoConfig.for_model(config["model_type"], **options))
        self.channels = config.get("hidden_size") or config["hidden_sizes"][-1]
        self.normalise = Normalise(mean, std)

    def forward(self, pixels: Tensor) -> Tensor:
        states = self.model(pixel_values=self.normalise(pixels)).last_hidden_state
        if states.ndim == 4:
            return states
        side = math.isqrt(states.shape[1])
        return states[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))


class Normalise(nn.Module):
    """Subtract a mean and divide by a deviation, for each colour."""

    def __init__(self, mean: list[float], std: list[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


def build_backbone(config: dict) -> nn.Module:
    """A backbone with random weights from what `config.json` says: its kind, and the options of that class.

    Raises:
        ConfigurationError: an unknown kind, or options that do not fit.
    """
    kinds = {
        "residual": ResidualNetwork,
        "torchvision": TorchvisionBackbone,
        "huggingface": HuggingFaceBackbone,
    }
    options = {key: value for key, value in config.items() if key != "kind"}
    if config.get("kind") not in kinds:
        raise ConfigurationError(f"unknown image backbone {config.get('kind')!r}: use {', '.join(kinds)}")
    return kinds[config["kind"]](**options)


def _torchvision_model(name: str) -> nn.Module:
    from torchvision import models

    if not name.startswith(("resnet", "vgg", "inception_v3")) or name not in models.list_models():
        raise ConfigurationError(f"unknown torchvision backbone {name!r}: use resnet*, vgg* or inception_v3")
    options = {"init_weights": True, "transform_input": False} if name == "inception_v3" else {}
    return models.get_model(name, weights=None, **options)
