"""Weights from safetensors, one file or several with an index, in our names: each rank reads its own part only."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from mmrag.decoder.group import Group
from mmrag.decoder.model import FusionModel
from mmrag.decoder.parallel import own_part, padded
from mmrag.errors import ConfigurationError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

T5_NAMES = [
    (r"^shared\.weight$", "embedding.weight"),
    (r"^lm_head\.weight$", "head.weight"),
    (r"^(encoder|decoder)\.final_layer_norm", r"\1_norm"),
    (r"^(encoder|decoder)\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias", r"\1_bias.table"),
    (r"^(encoder|decoder)\.block\.(\d+)\.layer\.0\.SelfAttention", r"\1.\2.attention"),
    (r"^(encoder|decoder)\.block\.(\d+)\.layer\.0\.layer_norm", r"\1.\2.norm"),
    (r"^decoder\.block\.(\d+)\.layer\.1\.EncDecAttention", r"decoder.\1.cross.text"),
    (r"^decoder\.block\.(\d+)\.layer\.1\.layer_norm", r"decoder.\1.cross.norm"),
    (r"^(encoder|decoder)\.block\.(\d+)\.layer\.\d\.layer_norm", r"\1.\2.feed_forward.norm"),
    (r"^(encoder|decoder)\.block\.(\d+)\.layer\.\d\.DenseReluDense\.wo", r"\1.\2.feed_forward.down"),
    (r"^(encoder|decoder)\.block\.(\d+)\.layer\.\d\.DenseReluDense\.wi_0", r"\1.\2.feed_forward.gate"),
    (r"^(encoder|decoder)\.block\.(\d+)\.layer\.\d\.DenseReluDense\.wi(_1)?", r"\1.\2.feed_forward.up"),
]
T5_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


@dataclass(frozen=True)
class Place:
    """Where a parameter lies: the file, and its name there."""

    file: Path
    name: str


def our_name(t5_name: str) -> str:
    """The name in our model of a parameter of Hugging Face's T5."""
    for pattern, replacement in T5_NAMES:
        name, num_replaced = re.subn(pattern, replacement, t5_name)
        if num_replaced:
            return name
    return t5_name


def weight_files(directory: Path) -> list[Path]:
    """The files that hold a checkpoint's weights; empty where there are none. Raises ConfigurationError."""
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if not (directory / INDEX).is_file():
        return []
    files = sorted(set(json.loads((directory / INDEX).read_text())["weight_map"].values()))
    if missing := [name for name in files if not (directory / name).is_file()]:
        raise ConfigurationError(f"{directory} lacks {', '.join(missing)}, which its {INDEX} names")
    return [directory / name for name in files]


def find_weights(directory: Path) -> dict[str, Place]:
    """Where each parameter, by our name, lies."""
    places = {}
    for path in weight_files(directory):
        with safe_open(path, "pt") as file:
            places |= {our_name(name): Place(path, name) for name in file.keys() if name not in T5_COPIES}  # noqa: SIM118
    return places


def load_weights(model: FusionModel, places: dict[str, Place], device: str, dtype: torch.dtype) -> None:
    """Fill a model, or one rank's share of it, which may be on the meta device.

    Raises ConfigurationError when names or shapes differ from what the model has.
    """
    parameters = dict(model.named_parameters())
    check_names(set(parameters), set(places))
    weights = {}
    for name, part in read_parts(places, model.group):
        weights[name] = padded(part.to(dtype=dtype, copy=True), parameters[name].shape).to(device)
        if weights[name].shape != parameters[name].shape:
            expected, found = list(parameters[name].shape), list(weights[name].shape)
            raise ConfigurationError(f"the weight {name} has the shape {found}, config.json asks for {expected}")
    model.load_state_dict(weights, strict=True, assign=True)


def read_parts(places: dict[str, Place], group: Group | None) -> Iterator[tuple[str, Tensor]]:
    """Each parameter, or this rank's part of it; valid until the next one is asked for.

    A file is mapped anew for each: what was read of it leaves the memory again.
    """
    for name, place in sorted(places.items(), key=lambda item: (item[1].file, item[0])):
        with safe_open(place.file, "pt") as file:
            whole = file.get_slice(place.name)
            shape = whole.get_shape()
            if group is None or not shape:
                yield name, file.get_tensor(place.name)
            else:
                yield name, whole[own_part(name, shape, group)]


def check_names(expected: set[str], found: set[str]) -> None:
    """Raises ConfigurationError, with the first few differences, unless both are the same."""
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    if missing or unexpected:
        differences = f"missing {', '.join(missing[:3]) or 'none'}, unexpected {', '.join(unexpected[:3]) or 'none'}"
        raise ConfigurationError(f"the weights do not fit their config.json: {differences}")
