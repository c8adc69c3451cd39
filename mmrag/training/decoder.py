"""Training the fusion decoder on a stream of examples: resumable, logged, with a curve at the end."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mmrag.decoder.additions import addition_names, let_learn
from mmrag.decoder.checkpoint import save_checkpoint
from mmrag.decoder.fusion import FusionDecoder
from mmrag.training.data import Example
from mmrag.training.decoder_batches import batches
from mmrag.training.decoder_config import DecoderTrainingConfig
from mmrag.training.decoder_losses import loss_of
from mmrag.training.optimizer import Optimizer
from mmrag.training.processes import average_gradients, is_first
from mmrag.training.topics import TopicClassifier


class Trainer:
    """The state of one run: model, optimizer, where it stands, what it has logged."""

    def __init__(
        self, decoder: FusionDecoder, config: DecoderTrainingConfig, out_dir: Path, slow_words: Tensor | None = None
    ):
        self.decoder, self.config, self.out_dir, self.slow_words = decoder, config, out_dir, slow_words
        self.model = decoder.model.requires_grad_(not config.frozen_base)
        if config.frozen_base:
            let_learn(self.model)
            for name in addition_names(self.model):
                self.model.get_parameter(name).requires_grad_(True)
        self.topics = TopicClassifier(config.topics, self.model.config.d_model).to(decoder.device)
        self.learned = nn.ModuleList([self.model, self.topics])
        self.optimizer = Optimizer(self.learned, config.learning_rate, config.weight_decay)
        self.num_steps, self.elapsed_s, self.progress = 0, 0.0, 0.0
        out_dir.mkdir(parents=True, exist_ok=True)

    def resume(self) -> None:
        if (self.out_dir / "last.pt").is_file():
            saved = torch.load(self.out_dir / "last.pt", map_location=self.decoder.device, weights_only=True)
            self.model.load_state_dict(saved["model"], strict=not self.config.frozen_base)
            self.topics.load_state_dict(saved["topics"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.num_steps, self.elapsed_s, self.progress = saved["num_steps"], saved["elapsed_s"], saved["progress"]

    def save(self) -> None:
        trained = {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}
        state = {"model": trained, "topics": self.topics.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"num_steps": self.num_steps, "elapsed_s": self.elapsed_s, "progress": self.progress}
        torch.save(state, self.out_dir / "last.pt.new")
        (self.out_dir / "last.pt.new").replace(self.out_dir / "last.pt")

    def step(self, examples: list[Example]) -> dict[str, float]:
        share = self.rate_factor()
        self.model.train()
        losses = loss_of(self.decoder, examples, self.config, self.topics)
        self.optimizer.zero_grad()
        losses["loss"].backward()
        average_gradients(self.learned.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.learned.parameters(), self.config.max_gradient_norm)
        if torch.isfinite(norm):
            self.learn(share)
        self.num_steps += 1
        rate = self.config.learning_rate * share
        return {name: value.item() for name, value in losses.items()} | {"rate": rate, "norm": norm.item()}

    def learn(self, share: float) -> None:
        """One step of the optimizer, of which slow words take a part only."""
        words, slow = self.model.embedding.weight.data, self.slow_words
        before = words[slow] if slow is not None else None
        self.optimizer.step(share)
        if slow is not None:
            words[slow] = before.lerp(words[slow], self.config.slow_words_share)

    def count(self, elapsed_s: float) -> None:
        """Note the time of a step, and how much of the run is over: in steps or, where a time is set, by the clock."""
        self.elapsed_s += elapsed_s
        limit_s = 60 * self.config.max_minutes if self.config.max_minutes else math.inf
        self.progress = min(1.0, max(self.num_steps / self.config.num_steps, self.elapsed_s / limit_s))

    def rate_factor(self) -> float:
        warm = min(1.0, (self.num_steps + 1) / self.config.num_warmup)
        return warm * max(0.02, 0.5 * (1 + math.cos(math.pi * self.progress)))

    def log(self, entry: dict) -> None:
        with open(self.out_dir / "training.jsonl", "a") as file:
            file.write(json.dumps({"step": self.num_steps, "elapsed_s": round(self.elapsed_s, 1)} | entry) + "\n")


def train_decoder(
    decoder: FusionDecoder,
    examples: Iterator[Example],
    config: DecoderTrainingConfig,
    out_dir: str | Path,
    validation: list[Example] = (),
    resume: bool = True,
    on_progress: Callable[[float], None] | None = None,
    slow_words: Tensor | None = None,
) -> FusionDecoder:
    """Train on a stream of examples, on the decoder's device; writes checkpoint, training.jsonl, curve.png and
    last.pt to `out_dir`.

    A run that was interrupted goes on from last.pt. `on_progress` is told how much of the run is over before each
    batch is drawn, so that the stream can become harder. In several processes (see `processes.run_on_all`) each has
    other examples, and the first one writes. `slow_words`: ids of tokens whose embeddings learn slowly.
    """
    trainer = Trainer(decoder, config, Path(out_dir), slow_words)
    if resume:
        trainer.resume()
        if trainer.progress >= 1.0:
            tqdm.write(f"{out_dir} holds a finished run; remove it to train anew")
    bar_format = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
    drawn = batches(examples, config)
    with tqdm(total=100, initial=100 * trainer.progress, desc="fusion decoder", bar_format=bar_format,
              disable=not is_first()) as bar:  # fmt: skip
        while trainer.progress < 1.0:
            started = time.monotonic()
            if on_progress is not None:
                on_progress(trainer.progress)
            losses = trainer.step(next(drawn))
            trainer.count(time.monotonic() - started)
            bar.n = round(100 * trainer.progress, 1)
            bar.set_postfix(step=trainer.num_steps, loss=f"{losses['loss']:.3f}")
            if is_first():
                after_step(trainer, losses, validation)
    if is_first():
        write_results(trainer)
    decoder.model.eval().requires_grad_(False)
    return decoder


def write_results(trainer: Trainer) -> None:
    trainer.save()
    # A frozen base is kept as precise as it was read.
    decoder = trainer.decoder
    save_checkpoint(trainer.out_dir, decoder.model, decoder.tokenizer, precision_of(trainer.config))
    draw_curve(trainer.out_dir)


def precision_of(config: DecoderTrainingConfig) -> torch.dtype:
    return torch.float32 if config.frozen_base else torch.float16


def after_step(trainer: Trainer, losses: dict[str, float], validation: list[Example]) -> None:
    config, last = trainer.config, trainer.progress >= 1.0
    if trainer.num_steps % 10 == 0 or last:
        trainer.log({name: round(value, 5) for name, value in losses.items()})
    if validation and config.validate_every and (trainer.num_steps % config.validate_every == 0 or last):
        trainer.log({"exact_match": exact_match(trainer.decoder, validation)})
    if trainer.num_steps % config.save_every == 0:
        trainer.save()


def exact_match(decoder: FusionDecoder, examples: list[Example], max_batch: int = 32) -> dict[str, float]:
    """Share of answers equal to the target, for each group of examples."""
    decoder.model.eval()
    right: dict[str, list[bool]] = {}
    for start in range(0, len(examples), max_batch):
        part = examples[start : start + max_batch]
        for example, decoded in zip(part, decoder.decode([example.request for example in part]), strict=True):
            right.setdefault(example.group, []).append(decoded.text == example.target)
    return {group: round(sum(hits) / len(hits), 4) for group, hits in sorted(right.items())}


def draw_curve(out_dir: Path) -> None:
    """Loss and exact match over steps, from training.jsonl to curve.png."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    entries = [json.loads(line) for line in (out_dir / "training.jsonl").read_text().splitlines()]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4))
    losses = [(entry["step"], entry["answer"]) for entry in entries if "answer" in entry]
    if losses:
        steps, values = zip(*losses, strict=True)
        left.plot(steps, values, linewidth=0.5, color="tab:blue", alpha=0.3)
        left.plot(steps, smoothed(values), color="tab:blue")
    left.set(xlabel="step", ylabel="loss of the answer", yscale="log")
    matches = [(entry["step"], entry["exact_match"]) for entry in entries if "exact_match" in entry]
    final = matches[-1][1] if matches else {}
    colours = pyplot.get_cmap("tab20").colors
    groups = {group for _, match in matches for group in match}
    for i, group in enumerate(sorted(groups, key=lambda group: -final.get(group, 0.0))):
        points = [(step, match[group]) for step, match in matches if group in match]
        right.plot(*zip(*points, strict=True), label=group, color=colours[i % len(colours)], marker=".", linewidth=1)
    right.set(xlabel="step", ylabel="exact match, made-up worlds", ylim=(0, 1.02))
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False) if matches else None
    figure.tight_layout()
    figure.savefig(out_dir / "curve.png", dpi=110)
    pyplot.close(figure)


def smoothed(values: Sequence[float], num: int = 20) -> list[float]:
    """Of each value, the geometric mean of the last `num`."""
    logs = [math.log(max(value, 1e-9)) for value in values]
    return [math.exp(sum(logs[max(0, i - num + 1) : i + 1]) / min(num, i + 1)) for i in range(len(logs))]
