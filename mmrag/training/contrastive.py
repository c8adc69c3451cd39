"""Train an image tower so that the same thing, drawn by anybody, lands in one place.

Each batch shows many things, each in several views: by different artists where there are several, and changed at
random. See `contrastive_loss` for what is asked of them.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from mmrag import bfloat16
from mmrag.encoders.image import ImageEncoder
from mmrag.encoders.tower import ImageTower, TowerConfig, on_white
from mmrag.training.contrastive_loss import ContrastiveLoss
from mmrag.training.device import device_kind
from mmrag.training.picture_bank import Batches, PictureBank, PictureSet

small_tower = TowerConfig({"kind": "residual", "widths": [32, 64, 192, 384]}, scales=(1.0, 0.85))


@dataclass(frozen=True)
class ContrastiveConfig:
    """One run. `group_shares` gives a group of things (the key up to its first `-`) a share of every batch,
    so that look-alikes meet in one batch; what is left is drawn from the other things."""

    tower: TowerConfig = small_tower
    num_steps: int = 4000
    num_things: int = 96
    num_views: int = 3
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    scale: float = 20.0
    proxy_weight: float = 0.5
    text_weight: float = 0.3
    ema_decay: float = 0.998
    group_shares: dict[str, float] = field(default_factory=dict)
    validation_every_steps: int = 250
    checkpoint_every_steps: int = 250
    seed: int = 0


@dataclass(frozen=True)
class Validation:
    """Queries by key against a gallery; keys of queries are found in the gallery."""

    gallery: PictureSet
    queries: PictureSet


def recall_at_1(tower: ImageTower, validation: Validation) -> float:
    """Share of queries whose nearest gallery picture shows the same thing."""
    gallery, queries = (_embed(tower, part.pictures) for part in (validation.gallery, validation.queries))
    found = np.array(validation.gallery.keys)[(queries @ gallery.T).argmax(1).numpy()]
    return float((found == np.array(validation.queries.keys)).mean())


@torch.inference_mode()
def _embed(tower: ImageTower, pictures: np.ndarray) -> Tensor:
    side_px, device = tower.config.side_px, next(tower.parameters()).device
    parts = []
    for start in range(0, len(pictures), 256):
        pixels = on_white(torch.from_numpy(pictures[start : start + 256])).to(device)
        parts.append(tower(F.interpolate(pixels, size=side_px, mode="bilinear", antialias=True))[0].cpu())
    return torch.cat(parts)


class ContrastiveTraining:
    """A run that can stop at any step and go on: state, one step, checkpoints and the log."""

    def __init__(
        self, bank: PictureBank, texts: dict[str, np.ndarray] | None, config: ContrastiveConfig, device: str = "cpu"
    ):
        torch.manual_seed(config.seed)
        self.bank, self.config, self.device, self.step = bank, config, device, 0
        self.tower = ImageTower(config.tower).to(device, memory_format=torch.channels_last)
        self.average = ImageTower(config.tower).to(device).eval()
        self.average.load_state_dict(self.tower.state_dict())
        described = None
        if texts is not None:
            empty = np.zeros((0, config.tower.dimension), np.float32)
            described = [torch.from_numpy(texts.get(key, empty)) for key in bank.keys]
        self._batches = Batches(bank, config.num_things, config.num_views, config.tower.side_px, config.seed)
        self.loss = ContrastiveLoss(
            len(bank.keys),
            config.tower.dimension,
            described,
            config.scale,
            config.proxy_weight,
            config.text_weight,
        ).to(device)
        self.optimizer = torch.optim.AdamW(self._parameter_groups(), lr=config.learning_rate, betas=(0.9, 0.98))

    def _parameter_groups(self) -> list[dict]:
        matrices = [parameter for parameter in self.tower.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.tower.parameters() if parameter.ndim <= 1]
        others += list(self.loss.parameters())
        return [
            {"params": matrices, "weight_decay": self.config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]

    def advance(self) -> dict[str, float]:
        """One optimizer step; returns the parts of the loss. Random numbers depend on seed and step alone."""
        things, pixels, random = self._batches.take(self.step)
        things, pixels = things.to(self.device), pixels.to(self.device, memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * schedule(self.step, self.config)
        with torch.autocast(device_kind(self.device), torch.bfloat16, enabled=bfloat16.is_faster(self.device)):
            embeddings, _ = self.tower(pixels)
        parts = self.loss(embeddings.float(), things, random)
        self.optimizer.zero_grad()
        parts["loss"].backward()
        nn.utils.clip_grad_norm_(self.tower.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._average_weights()
        return {name: float(part.detach()) for name, part in parts.items()}

    @torch.no_grad()
    def _average_weights(self) -> None:
        decay = min(self.config.ema_decay, self.step / (self.step + 10))
        for kept, current in zip(
            self.average.state_dict().values(), self.tower.state_dict().values(), strict=True
        ):
            if kept.is_floating_point():
                kept.lerp_(current, 1 - decay)
            else:
                kept.copy_(current)

    def save(self, path: Path) -> None:
        state = {"step": self.step, "config": asdict(self.config)} | {
            name: getattr(self, name).state_dict() for name in ("tower", "average", "loss", "optimizer")
        }
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def load(self, path: Path) -> None:
        """Raises ValueError when the checkpoint belongs to another configuration."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["config"] != asdict(self.config):
            raise ValueError(f"{path} was made with another configuration: remove it, or train without resume")
        self.step = state["step"]
        for name in ("tower", "average", "loss", "optimizer"):
            getattr(self, name).load_state_dict(state[name])


def schedule(step: int, config: ContrastiveConfig) -> float:
    """Warm-up, then a cosine to a hundredth."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.num_steps - config.warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, done)))


def train_image_tower(
    pictures: dict[str, PictureSet],
    texts: dict[str, np.ndarray] | None,
    config: ContrastiveConfig,
    out_dir: str | Path,
    resume: bool = True,
    validations: dict[str, Validation] | None = None,
    on_step: Callable[[int], None] | None = None,
    device: str = "cpu",
) -> ImageEncoder:
    """Train, writing checkpoint.pt, curve.jsonl, curve.png and the encoder itself to out_dir.

    pictures: one set for each artist (or each way of seeing the things). texts: embeddings of the descriptions of
    a thing, float32 [m, dimension], unit length; things without any are trained on pictures alone. `on_step` is
    told the number of steps done after each.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    training = ContrastiveTraining(PictureBank(pictures, config.group_shares), texts, config, device)
    checkpoint = out_dir / "checkpoint.pt"
    if resume and checkpoint.exists():
        training.load(checkpoint)
        if training.step >= config.num_steps:
            tqdm.write(f"{out_dir} holds a finished run; remove it to train anew")
    since_log: list[dict[str, float]] = []
    with tqdm(total=config.num_steps, initial=training.step, desc="image tower", unit="step") as progress:
        while training.step < config.num_steps:
            since_log.append(training.advance())
            progress.update()
            progress.set_postfix(loss=f"{since_log[-1]['loss']:.2f}", refresh=False)
            if _is_due(config.checkpoint_every_steps, training.step, config):
                training.save(checkpoint)
            if _is_due(config.validation_every_steps, training.step, config):
                _log(training, since_log, validations or {}, out_dir)
                since_log.clear()
            if on_step:
                on_step(training.step)
    encoder = ImageEncoder(training.average, training.device)
    encoder.save(out_dir / "encoder")
    return encoder


def _is_due(every_steps: int, step: int, config: ContrastiveConfig) -> bool:
    return step % every_steps == 0 or step == config.num_steps


def _log(
    training: ContrastiveTraining,
    losses: list[dict[str, float]],
    validations: dict[str, Validation],
    out_dir: Path,
) -> None:
    line = {"step": training.step} | {name: np.mean([part[name] for part in losses]) for name in losses[0]}
    line |= {name: recall_at_1(training.average, validation) for name, validation in validations.items()}
    with (out_dir / "curve.jsonl").open("a") as log:
        log.write(json.dumps({key: round(float(value), 4) for key, value in line.items()}) + "\n")
    ImageEncoder(training.average, training.device).save(out_dir / "encoder")
    plot_curve(out_dir / "curve.jsonl", out_dir / "curve.png", list(validations))


def plot_curve(log: Path, picture: Path, recalls: list[str]) -> None:
    """Loss and validation recall over steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line["step"] for line in lines]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3), dpi=80, layout="constrained")
    for name in ("views", "proxies", "texts"):
        if name in lines[-1]:
            left.plot(steps, [line[name] for line in lines], label=name)
    for name in recalls:
        right.plot(steps, [line[name] for line in lines], label=name)
    for axes, title in ((left, "loss"), (right, "Recall@1")):
        axes.set(title=title, xlabel="step")
        if axes.lines:
            axes.legend(fontsize=7)
    figure.savefig(picture)
    pyplot.close(figure)
