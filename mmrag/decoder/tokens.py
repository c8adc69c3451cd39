"""The tokenizer beside a checkpoint: tokenizer.json, or the sentencepiece file of an older T5."""

from pathlib import Path

from tokenizers import Encoding, Tokenizer

from mmrag.errors import ConfigurationError

TOKENIZER, SENTENCEPIECE = "tokenizer.json", "spiece.model"
NUM_SENTINELS = 100
DENSE_CHARS, MAX_CHARS = 2, 16
"""Per token: scripts that are written with two characters a token or fewer; more than any text has on average."""


def load_tokenizer(directory: Path) -> Tokenizer:
    """Raises ConfigurationError when the files cannot be read."""
    try:
        if (directory / TOKENIZER).is_file():
            return Tokenizer.from_file(str(directory / TOKENIZER))
        return from_sentencepiece(directory / SENTENCEPIECE)
    except Exception as error:
        raise ConfigurationError(f"the tokenizer in {directory} cannot be read: {error}") from error


def from_sentencepiece(path: Path) -> Tokenizer:
    """A T5's sentencepiece vocabulary, with its sentinels behind it."""
    from transformers import T5Tokenizer
    from transformers.utils.sentencepiece_model_pb2_new import ModelProto

    model = ModelProto.FromString(path.read_bytes())
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    sentinels = [(f"<extra_id_{i}>", 0.0) for i in reversed(range(NUM_SENTINELS))]
    normalization = model.normalizer_spec.precompiled_charsmap or None
    return T5Tokenizer(pieces + sentinels, _spm_precompiled_charsmap=normalization).backend_tokenizer


def beginning(tokenizer: Tokenizer, text: str, max_tokens: int) -> Encoding:
    """The tokens of a text, at least the first `max_tokens` of them: the rest of a long one costs nothing."""
    for max_chars in (DENSE_CHARS * max_tokens, MAX_CHARS * max_tokens):
        part = text if len(text) <= max_chars else whole_words_of(text[:max_chars])
        encoding = tokenizer.encode(part, add_special_tokens=False)
        if len(part) == len(text) or len(encoding.ids) >= max_tokens:
            break
    return encoding


def whole_words_of(cut_text: str) -> str:
    """Without the word that was cut, where it has spaces."""
    return cut_text.rpartition(" ")[0] or cut_text
