"""Train the atlas's fusion decoder, or a small version of one of its variants.

    python -m atlas.train_decoder                          the decoder of the demo, in two stages
    python -m atlas.train_decoder --variant no_pointer --minutes 8 --out .cache/no_pointer

The first stage reads invented worlds with simulated retrieval, from one short passage to eight; the second goes on
with half of its questions put to the real retriever, over documents and pictures of the training side.
"""

import argparse
import json
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
from mmrag.training.decoder import DecoderTrainingConfig, draw_curve, train_decoder

WEIGHTS = Path(__file__).parent / "weights" / "fusion_decoder"
CACHE = Path(".mmrag") / "question_embeddings.npz"
NOTED = Path(".mmrag") / "retrieved.pickle"
RUNS = Path(".cache") / "fusion_decoder"
NUM_VALIDATION = 20
NUM_RETRIEVED, NUM_VALIDATION_NOTED = 1_536, 128
FIRST = DecoderTrainingConfig(num_steps=2_500)
SECOND = DecoderTrainingConfig(num_steps=800, learning_rate=1e-3, num_warmup=20)

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
    examples = ReadingExamples(seed, Wordings(CACHE, held_back=True), progress=1.0, is_training=False)
    return [examples.example(kind) for kind in KINDS_OF_QUESTION for _ in range(num_each)]


def first_stage(run: Path, variant: str, config: DecoderTrainingConfig, seed: int = 0) -> FusionDecoder:
    """From nothing, on invented worlds that become harder."""
    examples = ReadingExamples(seed, Wordings(CACHE))
    return train_decoder(
        new_decoder(variant, seed, tokenizer_of(run)), examples, config, run,
        validation_examples(10_000 + seed, NUM_VALIDATION),
        on_progress=lambda progress: setattr(examples, "progress", progress),
    )  # fmt: skip


def second_stage(run: Path, decoder: FusionDecoder, config: DecoderTrainingConfig, seed: int = 0) -> FusionDecoder:
    """Go on at full difficulty, half of the examples as the real retriever gives them."""
    noted = note_retrieved(NOTED, NUM_RETRIEVED)
    examples = RetrievedExamples(noted[NUM_VALIDATION_NOTED:], ReadingExamples(seed, Wordings(CACHE), progress=1.0))
    held_back = ReadingExamples(seed + 1, Wordings(CACHE, held_back=True), progress=1.0, is_training=False)
    told = RetrievedExamples(noted[:NUM_VALIDATION_NOTED], held_back)
    validation = validation_examples(10_000 + seed, NUM_VALIDATION)
    validation += [example for example in map(told.example, told.noted) if example is not None]
    return train_decoder(decoder, examples, config, run, validation)


def publish(decoder: FusionDecoder, runs: list[Path], out: Path) -> None:
    """Checkpoint, log and curve of all stages, one after the other."""
    decoder.save(out)
    entries: list[dict] = []
    for run in runs:
        steps, seconds = (entries[-1]["step"], entries[-1]["elapsed_s"]) if entries else (0, 0.0)
        for line in (run / "training.jsonl").read_text().splitlines():
            entry = json.loads(line)
            entries.append(entry | {"step": entry["step"] + steps, "elapsed_s": round(entry["elapsed_s"] + seconds, 1)})
    (out / "training.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    draw_curve(out)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--runs", type=Path, default=RUNS, help="where interrupted runs are kept, to go on from")
    parser.add_argument("--variant", choices=VARIANTS, help="train only the first stage of a variant, into --out")
    parser.add_argument("--minutes", type=float, help="let the clock, not the steps, end the first stage")
    parser.add_argument("--threads", type=int, help="default: all cores")
    arguments = parser.parse_args(words)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    first = replace(FIRST, max_minutes=arguments.minutes)
    if arguments.variant:
        first_stage(arguments.out, arguments.variant, first)
        return
    runs = [arguments.runs / "first", arguments.runs / "second"]
    decoder = second_stage(runs[1], first_stage(runs[0], "dual_stream", first), SECOND)
    publish(decoder, runs, arguments.out)
    print(f"wrote {arguments.out} ({decoder.fingerprint})")


if __name__ == "__main__":
    main()
