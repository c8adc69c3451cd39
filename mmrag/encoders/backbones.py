"""Feature extractors for images: each maps float32 [n, 3, side, side] in 0..1 to a map [n, channels, h, w]."""

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


def build_backbone(config: dict) -> nn.Module:
    """`{"kind": "residual", "widths": [...]}`; the other kinds name a model."""
    options = {key: value for key, value in config.items() if key != "kind"}
    kinds = {"residual": ResidualNetwork}
    if config["kind"] not in kinds:
        raise ConfigurationError(f"unknown image backbone {config['kind']!r}: use one of {', '.join(kinds)}")
    return kinds[config["kind"]](**options)
