"""The decoder's tokenizer: whole English words as the text encoder knows them, and pieces for every other script.

The words come from the text encoder's vocabulary, not from the training texts: a word that no training question has
is still one token with a meaning to start from (see word_meanings). Names are cut into the longest pieces known,
at worst into bytes, so that anything can be copied as it stands. Numbers are cut into groups of up to three digits
and punctuation stands alone: "1,285,216" has the same tokens wherever it stands.
"""

import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from atlas.invented import invent_name
from atlas.reading import sample_texts
from mmrag.decoder.prompts import MARKERS

NUM_PIECES = 4_000
NUM_CAPITALISED = 14_000
NUM_BARE = 2_000
PIECES = r" ?\p{L}{1,40}| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]|\s{1,40}"
MAX_BYTES_PER_PIECE = 200
NUM_TEXTS = 1_000
NUM_NAMES = 8_000
SPACE = "Ġ"


def train_tokenizer() -> Tokenizer:
    tokens = ["<pad>", "</s>", "<unk>", *MARKERS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [*all_numbers(), *words(), *learned_pieces()]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    model = models.WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix="")
    model.max_input_chars_per_word = MAX_BYTES_PER_PIECE
    tokenizer = cut_like_text(Tokenizer(model))
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *MARKERS])
    return tokenizer


def cut_like_text(tokenizer: Tokenizer) -> Tokenizer:
    cut = pre_tokenizers.Split(Regex(PIECES), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def learned_pieces() -> list[str]:
    """What invented names and texts are often made of, the most frequent first."""
    tokenizer = cut_like_text(Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_PIECES, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)


def corpus() -> Iterator[str]:
    rng = random.Random(3)
    yield from sample_texts(rng, NUM_TEXTS)
    yield from (" " + invent_name(rng) for _ in range(NUM_NAMES))
    yield from ["’s", "’ – — “ ”"] * 500


def all_numbers() -> Iterator[str]:
    for width in (1, 2, 3):
        for n in range(10**width):
            yield from (f"{n:0{width}d}", f"{SPACE}{n:0{width}d}")


def words() -> Iterator[str]:
    """Words of the text encoder's vocabulary, which lists them by frequency: after a space, as they begin a sentence,
    and the commonest as they begin a line."""
    known = english_words()
    yield from (SPACE + word for word in known)
    yield from (SPACE + word.capitalize() for word in known[:NUM_CAPITALISED])
    yield from (word.capitalize() for word in known[:NUM_BARE])


def english_words() -> list[str]:
    from mmrag.config import TextEncoderConfig
    from mmrag.encoders.tokenizer import load_tokenizer

    known = load_tokenizer(TextEncoderConfig()).get_vocab()
    return sorted((word for word in known if word.isalpha() and word.isascii() and len(word) > 1), key=known.get)
