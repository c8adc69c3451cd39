"""Checkpoints and requests for the engine's benchmark: T5s with random weights, inputs and outputs of fixed lengths."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import T5Config, T5ForConditionalGeneration

from mmrag.types import DecodeRequest

END_ID = 1
MIN_INPUT, MAX_INPUT = 50, 1_500
MIN_OUTPUT, MAX_OUTPUT = 4, 128

DECODER = Path(__file__).parents[2] / "atlas" / "weights" / "fusion_decoder"
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
SIZES = ("vocab_size", "d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers")


def shape_of(decoder: Path) -> dict[str, int]:
    """The sizes of a decoder of ours, for a plain T5 of the same."""
    config = json.loads((decoder / "config.json").read_text())
    return {name: config[name] for name in SIZES}


SHAPES = {
    "atlas": shape_of(DECODER) | {"feed_forward_proj": "relu"},
    "flan-t5-small": {
        "vocab_size": 32_128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 1_024,
        "num_heads": 6,
        "num_layers": 8,
        "num_decoder_layers": 8,
    }
    | GATED,
    "flan-t5-base": {
        "vocab_size": 32_128,
        "d_model": 768,
        "d_kv": 64,
        "d_ff": 2_048,
        "num_heads": 12,
        "num_layers": 12,
        "num_decoder_layers": 12,
    }
    | GATED,
}


@dataclass(frozen=True)
class Asked:
    """A request: `ids` with the end token, how many tokens are to be written, and when it arrives (a share of all)."""

    ids: list[int]
    num_new_tokens: int
    arrival: float

    def as_request(self) -> DecodeRequest:
        """The same for our engine, whose tokenizer makes the same ids of it."""
        text = " ".join(f"w{token}" for token in self.ids[:-1])
        return DecodeRequest(text, None, None, None, [], max_new_tokens=self.num_new_tokens)


def title(shape: str) -> str:
    """What a checkpoint is, for the names of rows."""
    return f"T5 of {'the atlas decoder' if shape == 'atlas' else shape}'s shape"


def make_checkpoint(shape: str, directory: Path) -> Path:
    """A T5 of this shape as Hugging Face saves it, with random weights that never write the end token."""
    torch.manual_seed(7)
    config = T5Config(decoder_start_token_id=0, eos_token_id=END_ID, pad_token_id=0, **SHAPES[shape])
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 0.05 if config.tie_word_embeddings else 1.0)
        model.lm_head.weight[END_ID] = 0
    model.save_pretrained(directory)
    vocabulary = {"<pad>": 0, "</s>": END_ID, "<unk>": 2} | {f"w{i}": i for i in range(3, config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast"}
    names |= {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(names))
    (directory / "generation_config.json").write_text(json.dumps({"decoder_start_token_id": 0, "pad_token_id": 0}))
    return directory


def mixed(num: int, vocab_size: int, scale: float, seed: int = 3) -> list[Asked]:
    """Requests with lengths spread evenly over the whole range, arriving as a Poisson process does."""
    rng = random.Random(seed)
    gaps = [rng.expovariate(1.0) for _ in range(num)]
    arrivals = [sum(gaps[: i + 1]) / sum(gaps) for i in range(num)]
    return [
        asked(
            rng,
            vocab_size,
            round(scale * rng.uniform(MIN_INPUT, MAX_INPUT)),
            round(max(scale, 0.25) * rng.uniform(MIN_OUTPUT, MAX_OUTPUT)),
            arrival,
        )
        for arrival in arrivals
    ]


def alike(requests: list[Asked], vocab_size: int, num_groups: int, seed: int = 4) -> list[list[Asked]]:
    """For each part of the requests, in order of input length, as many as there are in all of its mean lengths."""
    rng, ordered = random.Random(seed), sorted(requests, key=lambda one: len(one.ids))
    groups = []
    for i in range(num_groups):
        part = ordered[i * len(ordered) // num_groups : (i + 1) * len(ordered) // num_groups]
        num_input = round(sum(len(one.ids) for one in part) / len(part))
        num_output = round(sum(one.num_new_tokens for one in part) / len(part))
        groups.append([asked(rng, vocab_size, num_input, num_output, 0.0) for _ in requests])
    return groups


def asked(rng: random.Random, vocab_size: int, num_input: int, num_output: int, arrival: float) -> Asked:
    ids = [rng.randrange(3, vocab_size) for _ in range(max(num_input, 2) - 1)]
    return Asked([*ids, END_ID], max(num_output, 1), arrival)
