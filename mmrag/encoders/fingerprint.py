"""What an embedding depends on, as a short name: for cache keys, and so that a store never mixes two models.

Read from the configuration and the files it names, without loading a model, so that every process can tell.
"""

import hashlib
from functools import lru_cache
from pathlib import Path

from mmrag.config import AppConfig, ImageEncoderConfig, TextEncoderConfig
from mmrag.encoders.pixels import PREPROCESSING_VERSION
from mmrag.encoders.tokenizer import model_directory


def text_fingerprint(config: TextEncoderConfig) -> str:
    """Equal fingerprints give equal embeddings of equal texts."""
    directory = model_directory(config.model, config.revision)
    return f"text:{_digest_of_files(str(directory.resolve()))}:{config.pooling}:{config.max_tokens}"


def image_fingerprint(config: ImageEncoderConfig) -> str:
    """Equal fingerprints give equal embeddings of equal images."""
    directory = Path(config.model)
    model = _digest_of_files(str(directory.resolve())) if directory.is_dir() else config.model
    return f"image:{model}:{PREPROCESSING_VERSION}"


def embedding_fingerprint(config: AppConfig) -> str:
    """Both encoders together: what all embeddings of a store have in common."""
    return f"{text_fingerprint(config.text_encoder)} {image_fingerprint(config.image_encoder)}"


@lru_cache
def _digest_of_files(directory: str) -> str:
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin"):
        path = Path(directory) / name
        if path.is_file():
            with path.open("rb") as file:
                digest.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
