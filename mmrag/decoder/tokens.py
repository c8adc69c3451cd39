"""The tokenizer beside a checkpoint: tokenizer.json, or the sentencepiece file of an older T5."""

from pathlib import Path

from tokenizers import Tokenizer

from mmrag.errors import ConfigurationError

TOKENIZER, SENTENCEPIECE = "tokenizer.json", "spiece.model"


def load_tokenizer(directory: Path) -> Tokenizer:
    """Raises ConfigurationError when the files cannot be read."""
    try:
        if (directory / TOKENIZER).is_file():
            return Tokenizer.from_file(str(directory / TOKENIZER))
        return from_sentencepiece(directory)
    except Exception as error:
        raise ConfigurationError(f"the tokenizer in {directory} cannot be read: {error}") from error


def from_sentencepiece(directory: Path) -> Tokenizer:
    """A T5's sentencepiece vocabulary with its 100 sentinels, as Hugging Face converts it."""
    from transformers import T5Tokenizer

    return T5Tokenizer.from_pretrained(str(directory)).backend_tokenizer
