"""Texts to embeddings with any Hugging Face encoder."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mmrag.config import TextEncoderConfig
from mmrag.encoders.bert import is_plain_bert, load_bert
from mmrag.encoders.tokenizer import load_tokenizer, model_directory
from mmrag.errors import ConfigurationError


class TextEncoder:
    """A transformer text encoder with pooling; embeddings are L2-normalised.

    Raises:
        ConfigurationError: the model cannot be found or loaded.
    """

    def __init__(self, config: TextEncoderConfig):
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        self.config = config
        self._tokenizer = load_tokenizer(config)
        self._tokenizer.enable_truncation(config.max_tokens)
        self._model = _load_model(config)
        self._pad_id = getattr(self._model.config, "pad_token_id", None) or 0
        self.dimension: int = self._model.config.hidden_size

    def encode(self, texts: list[str]) -> np.ndarray:
        """Embed n texts; longer ones are cut at `max_tokens`.

        Returns:
            float32 [n, dimension], rows of length 1.
        """
        embeddings = np.empty((len(texts), self.dimension), dtype=np.float32)
        token_ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        for positions in _batches_by_length(token_ids, self.config.max_batch_tokens):
            embeddings[positions] = self._encode_batch([token_ids[i] for i in positions])
        return embeddings

    @torch.inference_mode()
    def _encode_batch(self, token_ids: list[list[int]]) -> np.ndarray:
        lengths = torch.tensor([len(ids) for ids in token_ids])
        width = int(lengths.max())
        inputs = torch.tensor([ids + [self._pad_id] * (width - len(ids)) for ids in token_ids])
        mask = torch.arange(width) < lengths[:, None]
        inputs, mask = inputs.to(self.config.device), mask.to(self.config.device)
        states = self._model(input_ids=inputs, attention_mask=mask.long()).last_hidden_state
        pooled = pool(states.float(), mask, self.config.pooling)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Reduce token states [batch, tokens, dimension] to [batch, dimension], over the tokens where `mask` is True."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states)), mask.sum(dim=1) - 1]
    weights = mask[..., None].float()
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _batches_by_length(token_ids: list[list[int]], max_batch_tokens: int) -> Iterator[list[int]]:
    # Neighbours in length share a batch, so hardly anything is padding.
    batch: list[int] = []
    for i in sorted(range(len(token_ids)), key=lambda i: len(token_ids[i])):
        if batch and len(token_ids[i]) * (len(batch) + 1) > max_batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _load_model(config: TextEncoderConfig) -> torch.nn.Module:
    directory = model_directory(config.model, config.revision)
    if is_plain_bert(directory):
        return load_bert(directory).to(config.device)
    from transformers import AutoConfig, AutoModel

    try:
        model_config = AutoConfig.from_pretrained(directory)
        model = AutoModel.from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"text model {config.model!r} cannot be loaded: {error}") from error
    if model_config.is_encoder_decoder:
        model = model.get_encoder()
    elif hasattr(model, "text_model"):
        model = model.text_model
    return model.eval().to(config.device)
