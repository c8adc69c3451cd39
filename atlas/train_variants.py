"""Train every variant of the fusion decoder small, one after the other, to compare them.

    python -m atlas.train_variants                    # then: mmrag eval atlas --variants .cache/variants

Each has the same steps, examples and seed. Stop it at any time and start it again: finished variants stay, and the
one that was interrupted goes on from its last checkpoint.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from atlas.train_decoder import TRAINING, VARIANTS, publish, train
from mmrag.training.device import best_device

OUT = Path(".cache") / "variants"
NUM_STEPS = 600
"""Seven minutes each on one core: enough to copy, too few to read every wording."""


def train_variants(out: Path, num_steps: int, device: str) -> None:
    """Write <out>/<variant>/ for each; an unfinished run is kept in <out>/<variant>/run."""
    config = replace(TRAINING, num_steps=num_steps, validate_every=0, save_every=50)
    for i, variant in enumerate(VARIANTS, 1):
        folder = out / variant
        if (folder / "model.safetensors").is_file():
            print(f"{i} of {len(VARIANTS)}: {variant} is trained; remove {folder} to train it anew")
            continue
        print(f"{i} of {len(VARIANTS)}: {variant}", flush=True)
        publish(train(folder / "run", variant, config, device=device), folder / "run", folder)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=NUM_STEPS, help="of each variant (default: %(default)s)")
    parser.add_argument("--device", default=best_device(), help="default: %(default)s")
    parser.add_argument("--threads", type=int, help="default: all cores")
    arguments = parser.parse_args(words)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    train_variants(arguments.out, arguments.steps, arguments.device)


if __name__ == "__main__":
    main()
