"""Train the atlas's fusion decoder on invented worlds, or a small version of one of its variants.

    python -m atlas.train_decoder                          the decoder of the demo
    python -m atlas.train_decoder --variant no_pointer --minutes 8 --out runs/no_pointer
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from atlas.questions_seen import Wordings
from atlas.reading import KINDS_OF_QUESTION, ReadingExamples
from atlas.retrieved import RetrievedExamples, note_retrieved
from atlas.train_tokenizer import train_tokenizer
from atlas.wording import load_schema
from mmrag.decoder import DecoderModelConfig, FusionDecoder
from mmrag.decoder.model import FusionModel
from mmrag.training.data import Example
from mmrag.training.decoder import DecoderTrainingConfig, train_decoder

WEIGHTS = Path(__file__).parent / "weights" / "fusion_decoder"
CACHE = Path(".mmrag") / "question_embeddings.npz"
NOTED = Path(".mmrag") / "retrieved.pickle"
NUM_VALIDATION = 20

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
        vocab_size=vocab_size, d_model=128, d_kv=32, d_ff=512, num_heads=4, num_layers=3, num_decoder_layers=2,
        convolution_width=3, pointer=True, evidence=True, labels=labels,
    )
    return replace(config, **VARIANTS[variant])


def tokenizer_of(out_dir: Path) -> Tokenizer:
    """The tokenizer a run began with; a new one, saved at once, for a new run."""
    path = out_dir / "tokenizer.json"
    if not path.is_file():
        out_dir.mkdir(parents=True, exist_ok=True)
        train_tokenizer().save(str(path))
    return Tokenizer.from_file(str(path))


def new_decoder(variant: str, seed: int, tokenizer: Tokenizer) -> FusionDecoder:
    torch.manual_seed(seed)
    model = FusionModel(model_config(tokenizer.get_vocab_size(), variant))
    initialise(model)
    model.open_gates()
    return FusionDecoder(model, tokenizer)


def initialise(model: FusionModel) -> None:
    """Small embeddings and T5's scales: queries start small enough for plain dot products."""
    config = model.config
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q.weight", "query.weight")) and config.scores == "dot" and "evidence" not in name:
                parameter.normal_(0, (config.d_model * config.d_kv) ** -0.5)
            elif name.endswith("taps"):
                parameter.normal_(0, 0.3)
            elif parameter.ndim == 2 and "table" not in name and not name.startswith(("evidence", "embedding")):
                parameter.normal_(0, parameter.shape[1] ** -0.5)
        model.embedding.weight.normal_(0, 0.3)


def validation_examples(seed: int, num_each: int) -> list[Example]:
    """Invented worlds asked about in wordings held back from training, at the full number of passages."""
    examples = ReadingExamples(seed, Wordings(CACHE, held_back=True), progress=1.0)
    return [examples.example(kind) for kind in KINDS_OF_QUESTION for _ in range(num_each)]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--variant", choices=VARIANTS, default="dual_stream")
    parser.add_argument("--minutes", type=float, default=None, help="let the clock, not the steps, end the run")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--threads", type=int, default=None, help="default: all cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-resume", action="store_true")
    parser.add_argument("--retrieved", type=int, default=0, help="mix in so many questions put to the real retriever")
    arguments = parser.parse_args(words)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    steps = 10**9 if arguments.minutes else arguments.steps
    config = DecoderTrainingConfig(num_steps=steps, max_minutes=arguments.minutes)
    examples = ReadingExamples(arguments.seed, Wordings(CACHE))
    stream = examples
    if arguments.retrieved:
        stream = RetrievedExamples(note_retrieved(NOTED, arguments.retrieved), examples)
    decoder = train_decoder(
        new_decoder(arguments.variant, arguments.seed, tokenizer_of(arguments.out)), stream, config, arguments.out,
        validation=validation_examples(10_000 + arguments.seed, NUM_VALIDATION),
        resume=not arguments.no_resume, on_progress=lambda progress: setattr(examples, "progress", progress),
    )
    print(f"wrote {arguments.out} ({decoder.fingerprint})")


if __name__ == "__main__":
    main()
