"""The network behind the image encoder."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from mmrag.encoders.backbones import build_backbone


@dataclass(frozen=True)
class TowerConfig:
    """What a tower looks like; stored beside its weights. `backbone` is what `build_backbone` takes.

    A picture is looked at once for each of `scales`, shrunk onto white, and the embeddings are averaged; the
    grid is that of the first look.
    """

    backbone: dict
    side_px: int = 64
    grid_shape: tuple[int, int] = (4, 4)
    grid_dimension: int = 64
    dimension: int = 384
    scales: tuple[float, ...] = (1.0,)


class ImageTower(nn.Module):
    """A backbone, a narrow grid of its features, and a projection of the whole grid, normalised.

    Keeping the grid instead of averaging it away keeps where things are: flags differ by little else.
    The last norm centres every feature over what the tower was trained on; without it cosines crowd near 1.
    """

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone)
        self.grid = nn.Conv2d(self.backbone.channels, config.grid_dimension, 1)
        num_regions = config.grid_shape[0] * config.grid_shape[1]
        self.projection = nn.Linear(num_regions * config.grid_dimension, config.dimension)
        self.centre = nn.BatchNorm1d(config.dimension, affine=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels to unit embeddings and region features.

        pixels: float32 [n, 3, side, side] in 0..1. Returns [n, dimension] and [n, num_regions, grid_dimension].
        """
        maps = self.backbone(pixels)
        if maps.shape[2:] != self.config.grid_shape:
            maps = F.adaptive_avg_pool2d(maps, self.config.grid_shape)
        grid = self.grid(maps).flatten(2).transpose(1, 2)
        embeddings = self.centre(self.projection(grid.flatten(1)).float())
        return F.normalize(embeddings, dim=1), grid


def on_white(pictures: Tensor) -> Tensor:
    """uint8 [n, side, side, 4] to float32 [n, 3, side, side] in 0..1, laid on white."""
    layers = pictures.permute(0, 3, 1, 2).float() / 255
    return layers[:, :3] * layers[:, 3:] + (1 - layers[:, 3:])


def shrunk(pixels: Tensor, scale: float) -> Tensor:
    """The same pictures, float32 [n, 3, side, side], at `scale` (up to 1) in the middle of white."""
    side_px = pixels.shape[-1]
    inner_px = round(side_px * scale)
    before = (side_px - inner_px) // 2
    after = side_px - inner_px - before
    inner = F.interpolate(pixels, size=inner_px, mode="bilinear", antialias=True)
    return F.pad(inner, (before, after, before, after), value=1.0)
