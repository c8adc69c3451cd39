"""Reading and writing checkpoints: config.json, model.safetensors, tokenizer.json; ours, or a plain T5's."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.overrides import TorchFunctionMode

from mmrag.decoder.group import Group
from mmrag.decoder.model import FusionModel
from mmrag.decoder.parallel import shard
from mmrag.decoder.settings import DecoderModelConfig
from mmrag.decoder.tokens import SENTENCEPIECE, TOKENIZER, load_tokenizer
from mmrag.decoder.weights import INDEX, WEIGHTS, find_weights, load_weights, weight_files
from mmrag.errors import ConfigurationError
from mmrag.model_files import from_hub, may_be_on_hub


class Uninitialized(TorchFunctionMode):
    """Within it modules are made without random weights: those will be read from a file."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def find_checkpoint(model: str) -> Path:
    """The directory of a checkpoint; a Hugging Face name is looked up in its local cache, else downloaded.

    Raises ConfigurationError when it is not there or a file is missing.
    """
    directory = Path(model)
    if not directory.is_dir() and may_be_on_hub(model, needs_owner=True):
        directory = from_hub(model, ["config.json", "model*.safetensors", INDEX, TOKENIZER, SENTENCEPIECE])
    missing = [] if (directory / "config.json").is_file() else ["config.json"]
    missing += [] if weight_files(directory) else [WEIGHTS]
    missing += [] if any((directory / name).is_file() for name in (TOKENIZER, SENTENCEPIECE)) else [TOKENIZER]
    if missing:
        raise ConfigurationError(f"decoder model {model!r} has no {', '.join(missing)}; `mmrag train` writes them")
    return directory


def load_checkpoint(directory: Path, device: str = "cpu") -> tuple[FusionModel, Tokenizer]:
    """The model in float32, in evaluation mode, and its tokenizer."""
    return load_model(directory, device), load_tokenizer(directory)


def load_model(
    directory: Path, device: str = "cpu", group: Group | None = None, dtype: torch.dtype = torch.float32
) -> FusionModel:
    """The model, or this rank's share of it when there is a `group`, in evaluation mode.

    Raises ConfigurationError when its files do not fit together, or it cannot be shared by so many.
    """
    places = find_weights(directory)
    config = DecoderModelConfig.load(directory, has_head="head.weight" in places)
    with torch.device("meta"), Uninitialized():
        model = FusionModel(config)
        if group is not None:
            shard(model, group)
    try:
        load_weights(model, places, device, dtype)
    except ConfigurationError as error:
        raise ConfigurationError(f"{directory}: {error}") from error
    return model.requires_grad_(False).eval()


def save_checkpoint(
    directory: Path, model: FusionModel, tokenizer: Tokenizer, dtype: torch.dtype = torch.float16
) -> None:
    """Write the model in `dtype` with its tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    model.config.save(directory)
    weights = {name: tensor.detach().to("cpu", dtype) for name, tensor in model.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, directory / WEIGHTS)
    tokenizer.save(str(directory / TOKENIZER))


def fingerprint(directory: Path) -> str:
    """16 hex digits that change when any file of the checkpoint does."""
    digest = hashlib.sha256()
    tokenizer = directory / (TOKENIZER if (directory / TOKENIZER).is_file() else SENTENCEPIECE)
    for path in (directory / "config.json", *weight_files(directory), tokenizer):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
