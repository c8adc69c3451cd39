"""The decoder's embeddings of whole words, from those of the text encoder.

So a word that no training text has ("ministries") is for the network what its neighbours are ("government"). Words
that are trained on move slowly, so that they stay in the neighbourhood of the others, which do not move.
"""

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor

from atlas.train_tokenizer import SPACE
from mmrag.config import TextEncoderConfig
from mmrag.encoders.tokenizer import load_tokenizer, model_directory

SCALE, NOISE = 0.3, 0.08


def word_meanings(tokenizer: Tokenizer, dimension: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings float32 [vocabulary, dimension], and which of them are those of words, bool [vocabulary].

    A word has the text encoder's vector on its first principal components, found without case and leading space;
    numbers, signs and pieces of words are random.
    """
    vectors, known = encoder_words()
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for token, i in tokenizer.get_vocab().items():
        row = known.get(token.removeprefix(SPACE).lower())
        if row is not None and (token.startswith(SPACE) or token.istitle()):
            found[i] = row
    rows = vectors[list(found.values())]
    centred = rows - rows.mean(0)
    components = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -dimension:]
    projected = centred @ components
    embeddings = SCALE * torch.randn(tokenizer.get_vocab_size(), dimension, generator=generator)
    embeddings[list(found)] = SCALE * projected / projected.std() + NOISE * embeddings[list(found)] / SCALE
    is_word = torch.zeros(len(embeddings), dtype=torch.bool)
    is_word[list(found)] = True
    return embeddings, is_word


def encoder_words() -> tuple[Tensor, dict[str, int]]:
    """The text encoder's word vectors [words, dimension] and its vocabulary."""
    config = TextEncoderConfig()
    path = model_directory(config.model, config.revision) / "model.safetensors"
    with safe_open(path, "pt") as file:
        [name] = [key for key in file.keys() if key.endswith("word_embeddings.weight")]  # noqa: SIM118
        return file.get_tensor(name).float(), load_tokenizer(config).get_vocab()
