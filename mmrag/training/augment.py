"""What happens to a picture between its artist and a camera, on whole batches of tensors.

No mirror images and little change of hue: both would turn one flag into another.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(pictures: Tensor, side_px: int, generator: torch.Generator) -> Tensor:
    """uint8 [n, S, S, 4] with transparency to float32 [n, 3, side_px, side_px] in 0..1, each changed at random."""
    layers = _premultiplied(pictures)
    layers = layers * _stencils(len(layers), layers.shape[-1], generator)
    layers = F.grid_sample(layers, _warps(len(layers), side_px, generator), align_corners=False)
    backgrounds = _backgrounds(len(layers), side_px, generator)
    images = layers[:, :3] + (1 - layers[:, 3:]) * backgrounds
    images = _relight(images, generator)
    images = _blur(images, generator)
    images = _occlude(images, generator)
    noise = torch.randn(images.shape, generator=generator) * _uniform((len(images), 1, 1, 1), 0, 0.06, generator)
    return (images + noise * _chance(len(images), 0.5, generator)).clamp(0, 1)


def _premultiplied(pictures: Tensor) -> Tensor:
    layers = pictures.permute(0, 3, 1, 2).float() / 255
    return torch.cat([layers[:, :3] * layers[:, 3:], layers[:, 3:]], 1)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _chance(count: int, probability: float, generator: torch.Generator) -> Tensor:
    return (torch.rand((count, 1, 1, 1), generator=generator) < probability).float()


def _stencils(count: int, side_px: int, generator: torch.Generator) -> Tensor:
    """Round badges and rounded corners: masks [n, 1, side, side], most of them all ones."""
    axis = torch.linspace(-1, 1, side_px)
    x, y = axis.view(1, 1, 1, -1).abs(), axis.view(1, 1, -1, 1).abs()
    power = torch.where(_chance(count, 0.5, generator) > 0, 2.0, _uniform((count, 1, 1, 1), 3, 12, generator))
    rounded = ((x**power + y**power) <= 1).float()
    return torch.where(_chance(count, 0.25, generator) > 0, rounded, torch.ones(()))


def _warps(count: int, side_px: int, generator: torch.Generator) -> Tensor:
    """Sampling grids [n, side, side, 2]: rotation, scale, aspect, shift, perspective and waving."""
    def draw(low: float, high: float) -> Tensor:
        return _uniform((count, 1, 1), low, high, generator)

    axis = torch.linspace(-1, 1, side_px)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    depth = 1 + draw(-0.2, 0.2) * x + draw(-0.2, 0.2) * y
    x, y = (x + draw(-0.2, 0.2)) / depth, (y + draw(-0.2, 0.2)) / depth
    angle = draw(-0.3, 0.3) * (draw(0, 1) < 0.7)
    zoom, aspect = torch.exp(draw(-0.35, 0.35)), torch.exp(draw(-0.2, 0.2))
    u = (torch.cos(angle) * x - torch.sin(angle) * y) * zoom * aspect
    v = (torch.sin(angle) * x + torch.cos(angle) * y) * zoom / aspect
    swing = draw(0, 0.12) * (draw(0, 1) < 0.4)
    v = v + swing * torch.sin(draw(1.5, 6) * u + draw(0, 2 * math.pi))
    u = u + swing * 0.5 * torch.sin(draw(1.5, 6) * v + draw(0, 2 * math.pi))
    return torch.stack([u, v], -1)


def _backgrounds(count: int, side_px: int, generator: torch.Generator) -> Tensor:
    """White, one colour, or a blurred random scene: [n, 3, side, side]."""
    plain = _uniform((count, 3, 1, 1), 0, 1, generator).expand(-1, -1, side_px, side_px)
    coarse = torch.rand((count, 3, 5, 5), generator=generator)
    scene = F.interpolate(coarse, size=side_px, mode="bicubic", align_corners=False).clamp(0, 1)
    choice = torch.rand((count, 1, 1, 1), generator=generator)
    white = torch.ones(())
    return torch.where(choice < 0.45, white, torch.where(choice < 0.7, plain, scene))


def _relight(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, a slight tint, and light falling from one side."""
    count, _, side_px, _ = images.shape
    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return _uniform((count, channels, 1, 1), low, high, generator)

    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * draw(0.6, 1.3)
    images = (images - 0.5) * draw(0.7, 1.25) + 0.5 + draw(-0.12, 0.12)
    images = images * draw(0.92, 1.08, 3)
    axis = torch.linspace(-1, 1, side_px)
    slope = draw(-0.3, 0.3) * axis.view(1, 1, 1, -1) + draw(-0.3, 0.3) * axis.view(1, 1, -1, 1)
    return images * (1 + slope * _chance(count, 0.4, generator))


def _blur(images: Tensor, generator: torch.Generator) -> Tensor:
    """A Gaussian blur of its own for about 40 % of the images, sigma up to 1.6 pixels."""
    count = len(images)
    sigma = _uniform((count, 1), 0.4, 1.6, generator)
    kernel = torch.exp(-(torch.arange(-3, 4.0) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    chosen = (torch.rand(count, generator=generator) < 0.4).nonzero()[:, 0]
    part = images[chosen]
    if not len(chosen):
        return images
    weights = kernel.view(count, 3, 7)[chosen].reshape(-1, 1, 7)
    rows = part.reshape(1, -1, *part.shape[2:])
    rows = F.conv2d(F.pad(rows, (3, 3, 0, 0), mode="replicate"), weights.unsqueeze(2), groups=len(weights))
    rows = F.conv2d(F.pad(rows, (0, 0, 3, 3), mode="replicate"), weights.unsqueeze(3), groups=len(weights))
    return images.index_copy(0, chosen, rows.view_as(part))


def _occlude(images: Tensor, generator: torch.Generator) -> Tensor:
    """A finger, a pole or a reflection: a rectangle of one colour over 15 % of the images."""
    count, _, side_px, _ = images.shape
    axis = torch.linspace(-1, 1, side_px)
    centre, size = _uniform((count, 2, 1, 1), -1, 1, generator), _uniform((count, 2, 1, 1), 0.1, 0.35, generator)
    inside_x = (axis.view(1, 1, 1, -1) - centre[:, :1]).abs() < size[:, :1]
    inside_y = (axis.view(1, 1, -1, 1) - centre[:, 1:]).abs() < size[:, 1:]
    covered = inside_x & inside_y & (_chance(count, 0.15, generator) > 0)
    return torch.where(covered, _uniform((count, 3, 1, 1), 0, 1, generator), images)
