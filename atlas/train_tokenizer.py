"""The decoder's tokenizer: cased byte-level BPE, so that any name in any script can be copied as it stands.

Numbers are cut into groups of up to three digits and punctuation stands alone: "1,285,216" has the same tokens
wherever it stands, and an answer always begins and ends between two tokens.
"""

import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from atlas.invented import invent_name
from atlas.reading import sample_texts
from atlas.wording import load_schema
from mmrag.decoder.inputs import MARKERS

VOCABULARY_SIZE = 8_192
PIECES = r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]|\s+"
NUM_TEXTS = 3_000
NUM_NAMES = 6_000
NUMBER_WEIGHT = 60


def train_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(PIECES), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=["<pad>", "</s>", "<unk>", *MARKERS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def corpus() -> Iterator[str]:
    rng = random.Random(3)
    yield from sample_texts(rng, NUM_TEXTS)
    yield from (" " + invent_name(rng) for _ in range(NUM_NAMES))
    yield from words_of(load_schema())
    yield from ["’s", "’ – — “ ”"] * 500
    yield from (word for word in english_words() for _ in range(3))
    for digits in all_numbers():
        yield from [f" {digits} {digits}", digits] * NUMBER_WEIGHT


def all_numbers() -> Iterator[str]:
    yield from (f"{n:0{width}d}" for width in (1, 2, 3) for n in range(10**width))


def words_of(entry) -> Iterator[str]:
    """All wordings of the schema, the held-out test questions excepted."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for key, value in entry.items():
            if key not in ("test", "unseen_facts"):
                yield from words_of(value)
    else:
        for value in entry:
            yield from words_of(value)


def english_words() -> list[str]:
    """Whole words of the text encoder's vocabulary, in both cases."""
    from mmrag.config import TextEncoderConfig
    from mmrag.encoders.tokenizer import load_tokenizer

    known = load_tokenizer(TextEncoderConfig()).get_vocab()
    words = sorted(word for word in known if word.isalpha() and word.isascii() and len(word) > 2)
    return [f" {word} {word.capitalize()}" for word in words]
