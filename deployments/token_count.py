"""What an embeddings request is said to have used."""

from functools import lru_cache

from deployments.body import off_loop
from mmrag.config import TextEncoderConfig
from mmrag.encoders.tokenizer import load_tokenizer

MAX_REMEMBERED, MAX_REMEMBERED_CHARS = 20_000, 256
"""Short texts come again, and counting costs as much as all else about one whose embedding is cached."""


class TokenCount:
    """Counts the tokens that the text encoder reads: of each text at most `max_tokens`, of a picture none."""

    def __init__(self, config: TextEncoderConfig):
        self._tokenizer = load_tokenizer(config)
        self._tokenizer.enable_truncation(config.max_tokens)
        self._remembered = lru_cache(MAX_REMEMBERED)(lambda text: self._count([text]))

    async def __call__(self, inputs: list[str | bytes]) -> int:
        """Their sum over the inputs; pictures are bytes."""
        if len(inputs) == 1 and isinstance(inputs[0], str) and len(inputs[0]) <= MAX_REMEMBERED_CHARS:
            return self._remembered(inputs[0])
        texts = [value for value in inputs if isinstance(value, str)]
        return await off_loop(sum(map(len, texts)), lambda: self._count(texts))

    def _count(self, texts: list[str]) -> int:
        return sum(len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(texts))
