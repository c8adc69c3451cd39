"""How much memory a sequence holds while it runs."""

from mmrag.decoder.inputs import Batch
from mmrag.decoder.settings import DecoderModelConfig
from mmrag.decoder.shelves import rounded_up

BYTES_PER_NUMBER = 4


def num_bytes(config: DecoderModelConfig, evidence: Batch, max_new_tokens: int) -> int:
    """Keys and values of every layer for what it reads (text, image memory) and for all it may write; the pointer's."""
    num_text = rounded_up(evidence.source_ids.shape[1])
    num_image = evidence.text_embeddings.shape[1] + evidence.image_embeddings.shape[1] + evidence.grid.shape[1]
    num_memories = num_text + (rounded_up(num_image) if config.evidence else 0)
    per_token = 2 * config.num_decoder_layers * config.num_heads * config.d_kv
    pointer = 2 * config.d_model * num_text if config.pointer else 0
    return BYTES_PER_NUMBER * (per_token * (num_memories + rounded_up(max_new_tokens)) + pointer)
