"""Train the atlas's fusion decoder, or a small version of one of its variants.

    python -m atlas.train_decoder
    python -m atlas.train_decoder --variant no_pointer --minutes 8 --run .cache/no_pointer --out .cache/no_pointer/best

It reads invented worlds with simulated retrieval, from one short passage to eight; later half of the questions are
put to the real retriever, over documents and pictures of the training side, whose facts are made up anew each time.
"""

import argparse
import functools
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from atlas.layouts import KEYS, more_phrasings
from atlas.questions_seen import QUESTION_LAYERS, Wordings, train_templates
from atlas.reading import KINDS_OF_QUESTION, ReadingExamples, sample_texts
from atlas.retrieved import RetrievedExamples, note_retrieved
from atlas.train_tokenizer import train_tokenizer
from atlas.word_meanings import word_meanings
from atlas.wording import load_schema
from mmrag.config import TextEncoderConfig
from mmrag.decoder import DecoderModelConfig, FusionDecoder
from mmrag.decoder.model import FusionModel
from mmrag.training.decoder import train_decoder
from mmrag.training.decoder_config import DecoderTrainingConfig
from mmrag.training.device import best_device
from mmrag.training.processes import run_on_all

WEIGHTS = Path(__file__).parent / "weights" / "fusion_decoder"
CACHE = Path(".mmrag") / f"question_states-{'-'.join(map(str, QUESTION_LAYERS))}.npz"
NOTED = Path(".mmrag") / "retrieved.pickle"
RUN = Path(".cache") / "fusion_decoder"
NUM_VALIDATION = 30
NUM_TEXTS = 1_000
SEEDS_APART = 1_000
FAINT = {f"evidence.{part}.weight" for part in ("text", "image", "query", "question")}
SMALLEST_DEVIATION = 0.01
"""Of a number in the questions' states: one that hardly differs among them says nothing."""
PROCESSES = min(2, os.cpu_count() or 1) if best_device() == "cpu" else 1
NUM_RETRIEVED, NUM_VALIDATION_NOTED = 3_072, 256
TRAINING = DecoderTrainingConfig(
    num_steps=4_600, max_batch_tokens=8_000, learning_rate=1.0e-3, validate_every=1_400, topics=tuple(KEYS)
)

VARIANTS = {
    "dual_stream": {},
    "cross_modal": {"fusion": "cross_modal"},
    "dual_stream_scaled": {"scores": "scaled_dot"},
    "cross_modal_scaled": {"fusion": "cross_modal", "scores": "scaled_dot"},
    "no_pointer": {"pointer": False},
}


def model_config(vocab_size: int, variant: str = "dual_stream") -> DecoderModelConfig:
    labels = load_schema()["classify"]["continent"]
    config = DecoderModelConfig(
        vocab_size=vocab_size, d_model=192, d_kv=32, d_ff=768, num_heads=6, num_layers=3, num_decoder_layers=2,
        convolution_width=3, sentence_pooling=True, pointer=True, evidence=True, question_in_decoder=True,
        labels=labels, question_model=TextEncoderConfig().model, question_layers=QUESTION_LAYERS,
    )
    return replace(config, **VARIANTS[variant])


def tokenizer_of(out_dir: Path) -> Tokenizer:
    """The tokenizer a run began with; a new one, saved at once, for a new run."""
    path = out_dir / "tokenizer.json"
    if not path.is_file():
        out_dir.mkdir(parents=True, exist_ok=True)
        train_tokenizer().save(str(path))
    return Tokenizer.from_file(str(path))


def new_decoder(
    variant: str, seed: int, tokenizer: Tokenizer, device: str, questions: np.ndarray
) -> tuple[FusionDecoder, torch.Tensor]:
    """An untrained decoder whose words have meanings, and the ids of these words: those that training texts have are
    to learn slowly; the others do not move. `questions` [n, layers, 384]: what is usual in their states."""
    torch.manual_seed(seed)
    model = FusionModel(model_config(tokenizer.get_vocab_size(), variant))
    initialise(model)
    meanings, is_word = word_meanings(tokenizer, model.config.d_model)
    model.embedding.weight.data.copy_(meanings)
    flat = torch.from_numpy(questions.reshape(len(questions), -1)).float()
    model.evidence.question_mean.data.copy_(flat.mean(0))
    model.evidence.question_scale.data.copy_(1 / flat.std(0).clamp(min=SMALLEST_DEVIATION))
    model.open_gates()
    decoder, unread = FusionDecoder(model, tokenizer, device), (is_word & ~occurring(tokenizer))[:, None].to(device)
    model.embedding.weight.register_hook(lambda gradient: gradient.masked_fill(unread, 0.0))
    return decoder, is_word.nonzero().squeeze(-1).to(device)


def occurring(tokenizer: Tokenizer) -> torch.Tensor:
    """Which tokens occur in what is trained on, bool [vocabulary]: the others keep the meanings they begin with."""
    found = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.bool)
    for text in [*sample_texts(random.Random(1), NUM_TEXTS), *wordings()]:
        found[tokenizer.encode(text, add_special_tokens=False).ids] = True
    return found


def wordings() -> list[str]:
    groups = [*train_templates().values(), *more_phrasings(held_back=False).values()]
    return [f" {template}" for templates in groups for template in templates]


def initialise(model: FusionModel) -> None:
    """T5's scales: queries start small enough for plain dot products, and evidence does not drown the tokens."""
    config = model.config
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q.weight", "query.weight")) and config.scores == "dot" and "evidence" not in name:
                parameter.normal_(0, (config.d_model * config.d_kv) ** -0.5)
            elif name in FAINT:
                parameter.mul_(0.2)
            elif name.endswith("taps"):
                parameter.normal_(0, 0.3)
            elif parameter.ndim == 2 and "table" not in name and not name.startswith(("evidence", "embedding")):
                parameter.normal_(0, parameter.shape[1] ** -0.5)


def train(
    run: Path, variant: str, config: DecoderTrainingConfig, seed: int = 0, device: str = "cpu", rank: int = 0
) -> FusionDecoder:
    """From nothing: invented worlds that become harder, and later what the real retriever brings.

    Processes of other `rank` begin with the same model and have other examples.
    """
    noted = note_retrieved(NOTED, NUM_RETRIEVED)
    reading = ReadingExamples(seed + SEEDS_APART * rank, Wordings(CACHE))
    examples = RetrievedExamples(noted[NUM_VALIDATION_NOTED:], reading)
    held_back = ReadingExamples(seed + 1, Wordings(CACHE, held_back=True), progress=1.0, is_training=False)
    told = RetrievedExamples(noted[:NUM_VALIDATION_NOTED], held_back)
    validation = [held_back.example(kind) for kind in KINDS_OF_QUESTION for _ in range(NUM_VALIDATION)]
    validation += [example for example in map(told.example, told.noted) if example is not None]
    questions = np.concatenate(list(reading.wordings.states.values()))
    decoder, slow_words = new_decoder(variant, seed, tokenizer_of(run), device, questions)
    return train_decoder(
        decoder, examples, config, run, validation,
        on_progress=lambda progress: setattr(reading, "progress", progress), slow_words=slow_words,
    )  # fmt: skip


def publish(decoder: FusionDecoder, run: Path, out: Path) -> None:
    """The checkpoint with its log and curve, without the state of the run."""
    decoder.save(out)
    for name in ("training.jsonl", "curve.png"):
        shutil.copy(run / name, out)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--run", type=Path, default=RUN, help="where an interrupted run is kept, to go on from")
    parser.add_argument("--variant", choices=VARIANTS, default="dual_stream")
    parser.add_argument("--minutes", type=float, help="let the clock, not the steps, end the run")
    parser.add_argument("--steps", type=int, default=TRAINING.num_steps, help="default: %(default)s")
    parser.add_argument("--device", default=best_device(), help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="each has other examples (%(default)s)")
    arguments = parser.parse_args(words)
    config = replace(TRAINING, num_steps=arguments.steps)
    if arguments.minutes:
        config = replace(config, max_minutes=arguments.minutes, num_steps=10**9)
    if arguments.minutes and arguments.processes > 1:
        parser.error("--minutes needs --processes 1: processes end after the same steps")
    note_retrieved(NOTED, NUM_RETRIEVED)  # and what else is cached, before several processes look for it
    tokenizer_of(arguments.run)
    Wordings(CACHE)
    run_on_all(arguments.processes, functools.partial(train_and_publish, arguments, config))


def train_and_publish(arguments: argparse.Namespace, config: DecoderTrainingConfig, rank: int) -> None:
    decoder = train(arguments.run, arguments.variant, config, device=arguments.device, rank=rank)
    if rank == 0:
        publish(decoder, arguments.run, arguments.out)
        print(f"wrote {arguments.out} ({decoder.fingerprint})")


if __name__ == "__main__":
    main()
