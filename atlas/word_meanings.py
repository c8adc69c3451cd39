"""Starting values for the decoder's word embeddings, from those of the text encoder.

So words that no training question has ("ministries") start near words that some have ("government").
"""

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor

from mmrag.config import TextEncoderConfig
from mmrag.encoders.tokenizer import load_tokenizer, model_directory

SCALE, NOISE = 0.3, 0.08


def word_meanings(tokenizer: Tokenizer, dimension: int, seed: int = 0) -> Tensor:
    """float32 [vocabulary, dimension]: the text encoder's word vectors on their first principal components.

    A token finds its vector without its case and leading space, a piece of a word as a piece; the others are random.
    """
    vectors, known = encoder_words()
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for token, i in tokenizer.get_vocab().items():
        text = tokenizer.decode([i]).strip().lower()
        row = known.get(text) if token.startswith("Ġ") or len(text) < 2 else known.get("##" + text, known.get(text))
        if row is not None:
            found[i] = row
    rows = vectors[list(found.values())]
    centred = rows - rows.mean(0)
    components = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -dimension:]
    projected = centred @ components
    embeddings = SCALE * torch.randn(tokenizer.get_vocab_size(), dimension, generator=generator)
    embeddings[list(found)] = SCALE * projected / projected.std() + NOISE * embeddings[list(found)] / SCALE
    return embeddings


def encoder_words() -> tuple[Tensor, dict[str, int]]:
    """The text encoder's word vectors [words, dimension] and its vocabulary."""
    config = TextEncoderConfig()
    path = model_directory(config.model, config.revision) / "model.safetensors"
    with safe_open(path, "pt") as file:
        [name] = [key for key in file.keys() if key.endswith("word_embeddings.weight")]  # noqa: SIM118
        return file.get_tensor(name).float(), load_tokenizer(config).get_vocab()
