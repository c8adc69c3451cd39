"""Pictures to vectors: one embedding in the space of the texts, and a grid of region features."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mmrag.encoders.backbones import build_backbone
from mmrag.encoders.pixels import square
from mmrag.errors import ConfigurationError

preprocessing_version = "square-1"
"""Part of the fingerprint: change it whenever the same picture would reach the network as other pixels."""


@dataclass(frozen=True)
class ImageEmbeddings:
    """embeddings: float32 [n, dimension], unit length. grids: float16 [n, num_regions, grid_dimension]."""

    embeddings: np.ndarray
    grids: np.ndarray


@dataclass(frozen=True)
class ImageEncoderConfig:
    """What is stored beside the weights. `backbone` is what `build_backbone` takes."""

    backbone: dict
    side_px: int = 64
    grid_shape: tuple[int, int] = (4, 4)
    grid_dimension: int = 64
    dimension: int = 384


class ImageTower(nn.Module):
    """A backbone, a narrow grid of its features, and a projection of the whole grid, normalised.

    Keeping the grid instead of averaging it away keeps where things are: flags differ by little else.
    The last norm centres every feature over what the tower was trained on; without it cosines crowd near 1.
    """

    def __init__(self, config: ImageEncoderConfig):
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone)
        self.grid = nn.Conv2d(self.backbone.channels, config.grid_dimension, 1)
        num_regions = config.grid_shape[0] * config.grid_shape[1]
        self.projection = nn.Linear(num_regions * config.grid_dimension, config.dimension)
        self.centre = nn.BatchNorm1d(config.dimension, affine=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [n, 3, side, side] in 0..1 to unit embeddings [n, dimension] and grids [n, regions, grid_dimension]."""
        maps = self.backbone(pixels)
        if maps.shape[2:] != self.config.grid_shape:
            maps = F.adaptive_avg_pool2d(maps, self.config.grid_shape)
        grid = self.grid(maps).flatten(2).transpose(1, 2)
        embeddings = self.centre(self.projection(grid.flatten(1)).float())
        return F.normalize(embeddings, dim=1), grid


class ImageEncoder:
    """A trained tower and its preprocessing. `fingerprint` names both, for cache keys."""

    def __init__(self, tower: ImageTower, device: str = "cpu"):
        self.tower = tower.eval().to(device)
        self.device = device
        self.fingerprint = _fingerprint(self.tower)

    @property
    def dimension(self) -> int:
        return self.tower.config.dimension

    @property
    def grid_shape(self) -> tuple[int, int]:
        return self.tower.config.grid_shape

    @property
    def grid_dimension(self) -> int:
        return self.tower.config.grid_dimension

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> "ImageEncoder":
        """Read what `save` wrote. Raises ConfigurationError when it is not there or does not fit."""
        folder = Path(path)
        try:
            stored = json.loads((folder / "config.json").read_text())
            weights = load_file(folder / "model.safetensors")
        except FileNotFoundError as error:
            raise ConfigurationError(f"no image encoder in {folder}: {error.filename} is missing") from error
        stored["grid_shape"] = tuple(stored["grid_shape"])
        tower = ImageTower(ImageEncoderConfig(**stored))
        try:
            tower.load_state_dict(weights)
        except RuntimeError as error:
            raise ConfigurationError(f"the weights in {folder} do not fit its config.json: {error}") from error
        return cls(tower, device)

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors (half precision)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.tower.config.__dict__ | {"grid_shape": list(self.grid_shape)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        weights = {name: _half(value).contiguous() for name, value in self.tower.state_dict().items()}
        save_file(weights, folder / "model.safetensors")

    @torch.inference_mode()
    def encode(self, images: list[np.ndarray]) -> ImageEmbeddings:
        """images: uint8 [H, W, 3 or 4] of any sizes; transparency is laid on white."""
        if not images:
            return ImageEmbeddings(
                np.zeros((0, self.dimension), np.float32),
                np.zeros((0, self.grid_shape[0] * self.grid_shape[1], self.grid_dimension), np.float16),
            )
        squares = np.stack([square(image, self.tower.config.side_px) for image in images])
        embeddings, grids = self.tower(on_white(torch.from_numpy(squares).to(self.device)))
        return ImageEmbeddings(embeddings.float().cpu().numpy(), grids.half().cpu().numpy())


def on_white(pictures: Tensor) -> Tensor:
    """uint8 [n, side, side, 4] to float32 [n, 3, side, side] in 0..1, laid on white."""
    layers = pictures.permute(0, 3, 1, 2).float() / 255
    return layers[:, :3] * layers[:, 3:] + (1 - layers[:, 3:])


def _half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def _fingerprint(tower: ImageTower) -> str:
    digest = hashlib.sha256(json.dumps(tower.config.__dict__, sort_keys=True, default=list).encode())
    for name, value in sorted(tower.state_dict().items()):
        digest.update(name.encode() + _half(value).cpu().contiguous().numpy().tobytes())
    kind = tower.config.backbone.get("name", tower.config.backbone["kind"])
    return f"{kind}-{digest.hexdigest()[:16]}-{preprocessing_version}"
