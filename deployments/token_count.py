"""What an embeddings request is said to have used."""

from deployments.body import off_loop
from mmrag.config import TextEncoderConfig
from mmrag.encoders.tokenizer import load_tokenizer


class TokenCount:
    """Counts the tokens that the text encoder reads: of each text at most `max_tokens`, of a picture none."""

    def __init__(self, config: TextEncoderConfig):
        self._tokenizer = load_tokenizer(config)
        self._tokenizer.enable_truncation(config.max_tokens)

    async def __call__(self, inputs: list[str | bytes]) -> int:
        """Their sum over the inputs; pictures are bytes."""
        texts = [value for value in inputs if isinstance(value, str)]
        return await off_loop(sum(map(len, texts)), lambda: self._count(texts))

    def _count(self, texts: list[str]) -> int:
        return sum(len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(texts))
