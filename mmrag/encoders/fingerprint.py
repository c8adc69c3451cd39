"""What an embedding depends on, as a short name: for cache keys, and so that a store never mixes two models.

Read from the configuration and the files it names, without loading a model, so that every process can tell.
"""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from mmrag.config import AppConfig, ImageEncoderConfig, TextEncoderConfig
from mmrag.encoders.pixels import PREPROCESSING_VERSION
from mmrag.encoders.tokenizer import model_directory


def text_fingerprint(config: TextEncoderConfig) -> str:
    """Equal fingerprints give equal embeddings of equal texts, but for how processors round."""
    directory = model_directory(config.model, config.revision)
    return f"text:{_digest_of_files(str(directory.resolve()))}:{config.pooling}:{config.max_tokens}"


def image_fingerprint(config: ImageEncoderConfig) -> str:
    """Equal fingerprints give equal embeddings of equal images, but for how processors round."""
    return f"image:{_image_model(config.model)}:{PREPROCESSING_VERSION}"


def embedding_fingerprint(config: AppConfig) -> str:
    """Both encoders together: what all embeddings of a store have in common."""
    return f"{text_fingerprint(config.text_encoder)} {image_fingerprint(config.image_encoder)}"


def _image_model(model: str) -> str:
    if not model.startswith("torchvision:"):
        return _digest_of_files(str(model_directory(model).resolve()))
    name, _, file = model.partition("@")
    if file:
        return f"{name}@{_digest_of_file(str(Path(file).resolve()))}"
    return f"{name}@{version('torchvision')}"  # which of the published weights it takes is a matter of its version


@lru_cache
def _digest_of_files(directory: str) -> str:
    digest = hashlib.sha256()
    for path in _model_files(Path(directory)):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


@lru_cache
def _digest_of_file(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _model_files(directory: Path) -> list[Path]:
    names = ["config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin"]
    shards = sorted(path.name for path in directory.glob("*-of-*") if path.suffix in (".safetensors", ".bin"))
    wanted = [directory / name for name in [*names, *shards, "preprocessor_config.json"]]
    return [path for path in wanted if path.is_file()]
