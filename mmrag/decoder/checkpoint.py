"""Reading and writing checkpoints: config.json, model.safetensors, tokenizer.json; ours, or a plain T5's."""

import hashlib
import re
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer

from mmrag.decoder.model import FusionModel
from mmrag.decoder.settings import DecoderModelConfig
from mmrag.errors import ConfigurationError

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"

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


def our_name(t5_name: str) -> str:
    """The name in our model of a parameter of Hugging Face's T5."""
    for pattern, replacement in T5_NAMES:
        name, num_replaced = re.subn(pattern, replacement, t5_name)
        if num_replaced:
            return name
    return t5_name


def find_checkpoint(model: str) -> Path:
    """The directory of a checkpoint; a Hugging Face name is looked up in its local cache, else downloaded.

    Raises ConfigurationError when it is not there or a file is missing.
    """
    directory = Path(model)
    if not directory.is_dir() and re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not directory.parent.is_dir():
        directory = download(model)
    missing = [name for name in ("config.json", WEIGHTS, TOKENIZER) if not (directory / name).is_file()]
    if missing:
        raise ConfigurationError(f"decoder model {model!r} has no {', '.join(missing)}; `mmrag train` writes them")
    return directory


def download(model: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        return Path(snapshot_download(model, allow_patterns=["config.json", WEIGHTS, TOKENIZER]))
    except Exception as error:
        reason = f"is no directory here and cannot be fetched: {error}"
        raise ConfigurationError(f"decoder model {model!r} {reason}") from error


def load_checkpoint(directory: Path, device: str = "cpu") -> tuple[FusionModel, Tokenizer]:
    """The model in float32, in evaluation mode, and its tokenizer."""
    with safe_open(directory / WEIGHTS, "pt", device=device) as file:
        names = set(file.keys())
        config = DecoderModelConfig.load(directory, has_head=bool(names & {"lm_head.weight", "head.weight"}))
        weights = {our_name(name): file.get_tensor(name).float() for name in names if name not in T5_COPIES}
    # Skipping the initialisation saves seconds on a large model; on a small one it costs 1.5 s of torch imports.
    is_large = (directory / WEIGHTS).stat().st_size > 500e6
    with torch.device("meta" if is_large else device):
        model = FusionModel(config)
    missing, unexpected = model.load_state_dict(weights, strict=True, assign=True)
    if missing or unexpected:
        differences = f"missing {missing[:3]}, unexpected {unexpected[:3]}"
        raise ConfigurationError(f"the weights in {directory} do not fit its config.json: {differences}")
    return model.requires_grad_(False).eval(), Tokenizer.from_file(str(directory / TOKENIZER))


def save_checkpoint(directory: Path, model: FusionModel, tokenizer: Tokenizer) -> None:
    """Write the model in half precision with its tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    model.config.save(directory)
    weights = {name: tensor.detach().to("cpu", torch.float16) for name, tensor in model.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, directory / WEIGHTS)
    tokenizer.save(str(directory / TOKENIZER))


def fingerprint(directory: Path) -> str:
    """16 hex digits that change when any file of the checkpoint does."""
    digest = hashlib.sha256()
    for name in ("config.json", WEIGHTS, TOKENIZER):
        digest.update(hashlib.sha256((directory / name).read_bytes()).digest())
    return digest.hexdigest()[:16]
