"""Texts to embeddings with any Hugging Face encoder."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrag import onednn
from mmrag.batching import cut_sorted
from mmrag.config import TextEncoderConfig
from mmrag.encoders.bert import is_plain_bert, load_bert
from mmrag.encoders.packed_bert import PackedBert
from mmrag.encoders.precision import product_dtype
from mmrag.encoders.tokenizer import load_tokenizer, model_directory
from mmrag.errors import ConfigurationError

CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 512, 16_384
"""A core gains nothing from larger batches, and who waits for them loses; a GPU is filled by large ones only."""


class TextEncoder:
    """A transformer text encoder with pooling; embeddings are L2-normalised.

    Raises:
        ConfigurationError: the model cannot be found or loaded.
    """

    def __init__(self, config: TextEncoderConfig):
        self.config = config
        self._tokenizer = load_tokenizer(config)
        self._tokenizer.enable_truncation(config.max_tokens)
        self._dtype = product_dtype(config.precision, config.device)
        self._model = _load_model(config, self._dtype)
        self._pad_id = getattr(self._model.config, "pad_token_id", None) or 0
        self.dimension: int = self._model.config.hidden_size
        is_on_cpu = torch.device(config.device).type == "cpu"
        self.max_batch_tokens = config.max_batch_tokens or (CPU_BATCH_TOKENS if is_on_cpu else GPU_BATCH_TOKENS)

    def encode(self, texts: list[str]) -> np.ndarray:
        """Embed n texts; longer ones are cut at `max_tokens`.

        Returns:
            float32 [n, dimension], rows of length 1.
        """
        embeddings = np.empty((len(texts), self.dimension), dtype=np.float32)
        token_ids = self.tokenize(texts)
        by_length = sorted(range(len(texts)), key=lambda i: len(token_ids[i]))
        for positions in cut_sorted(by_length, lambda i: len(token_ids[i]), self.max_batch_tokens):
            embeddings[positions] = self.encode_tokens([token_ids[i] for i in positions])
        return embeddings

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """The token ids of each text, at most `max_tokens`."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    @torch.inference_mode()
    def encode_tokens(self, token_ids: list[list[int]]) -> np.ndarray:
        """Embed n texts, given their token ids, in one batch: float32 [n, dimension]. Threads may share the encoder."""
        inputs, mask = self._padded(token_ids)
        pooled = pool(self._run(inputs, mask).last_hidden_state.float(), mask, self.config.pooling)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()

    @torch.inference_mode()
    def mean_states(self, token_ids: list[list[int]], layers: list[int]) -> np.ndarray:
        """What the layers, counted from 1, make of n texts: float32 [n, layers, dimension], means over the tokens."""
        inputs, mask = self._padded(token_ids)
        states = self._run(inputs, mask, needs_all_states=True).hidden_states
        return torch.stack([pool(states[layer].float(), mask, "mean") for layer in layers], 1).cpu().numpy()

    def _padded(self, token_ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Token ids [n, longest], and where there is a token, on the device."""
        lengths = torch.tensor([len(ids) for ids in token_ids])
        width = int(lengths.max())
        inputs = torch.tensor([ids + [self._pad_id] * (width - len(ids)) for ids in token_ids])
        mask = torch.arange(width) < lengths[:, None]
        return inputs.to(self.config.device), mask.to(self.config.device)

    def _run(self, inputs: Tensor, mask: Tensor, needs_all_states: bool = False) -> Any:
        is_mixed = inputs.is_cuda and self._dtype != torch.float32  # on a CPU only PackedBert is
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=is_mixed):
            return self._model(input_ids=inputs, attention_mask=mask.long(), output_hidden_states=needs_all_states)


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Reduce token states [batch, tokens, dimension] to [batch, dimension], over the tokens where `mask` is True."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states)), mask.sum(dim=1) - 1]
    weights = mask[..., None].float()
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _load_model(config: TextEncoderConfig, dtype: torch.dtype) -> torch.nn.Module:
    directory = model_directory(config.model, config.revision)
    if is_plain_bert(directory):
        bert = load_bert(directory)
        if config.max_tokens > (most := bert.config.max_position_embeddings):
            raise ConfigurationError(f"max_tokens is {config.max_tokens}, but {config.model} reads up to {most}")
        return PackedBert(bert, dtype) if onednn.is_there(config.device) else bert.to(config.device)
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"text model {config.model!r} cannot be loaded: {error}") from error
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    elif hasattr(model, "text_model"):
        model = model.text_model
    return model.eval().to(config.device)
