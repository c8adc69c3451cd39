"""What a decoder reads a question from: the mean states of several layers of a text encoder.

An embedding made for search says what a text is about, and little of how it is put: from MiniLM's embedding a linear
probe names the attribute that 94.4 % of the atlas's unseen questions ask for, from the means of four layers 97.1 %.
"""

from functools import lru_cache

import numpy as np

from mmrag.config import TextEncoderConfig
from mmrag.encoders.text import TextEncoder

MAX_TOKENS = 64
"""Of a question; what is further on is not read."""
MAX_KEPT = 4_096


class QuestionReader:
    """`read` for one caller at a time."""

    def __init__(self, model: str, layers: list[int]):
        """Raises ConfigurationError where the model cannot be found or loaded."""
        self._encoder = TextEncoder(TextEncoderConfig(model=model, max_tokens=MAX_TOKENS))
        self._layers = layers
        self.read = lru_cache(MAX_KEPT)(self._read)

    def _read(self, text: str) -> np.ndarray:
        """float16 [layers, dimension]; not to be changed, for who asks again is given the same."""
        return self.read_all([text])[0]

    def read_all(self, texts: list[str]) -> np.ndarray:
        """float16 [n, layers, dimension] of texts of like length."""
        return self._encoder.mean_states(self._encoder.tokenize(texts), self._layers).astype(np.float16)
