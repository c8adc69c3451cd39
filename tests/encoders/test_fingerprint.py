import json

import pytest

from mmrag.config import AppConfig, ImageEncoderConfig, TextEncoderConfig
from mmrag.encoders.fingerprint import embedding_fingerprint, image_fingerprint, text_fingerprint


def model(folder, content: bytes) -> str:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 4}))
    (folder / "model.safetensors").write_bytes(content)
    return str(folder)


@pytest.fixture
def models(tmp_path) -> tuple[str, str, str]:
    return model(tmp_path / "a/m", b"1"), model(tmp_path / "b/m", b"2"), model(tmp_path / "c/m", b"1")


def test_everything_a_text_embedding_depends_on_changes_the_name(models):
    first, second, copy = models
    configs = [
        TextEncoderConfig(model=first),
        TextEncoderConfig(model=second),
        TextEncoderConfig(model=first, pooling="cls"),
        TextEncoderConfig(model=first, max_tokens=32),
    ]
    assert len({text_fingerprint(config) for config in configs}) == 4
    assert text_fingerprint(TextEncoderConfig(model=copy)) == text_fingerprint(configs[0])
    assert text_fingerprint(TextEncoderConfig(model=first, device="cuda")) == text_fingerprint(configs[0])


def test_both_encoders_make_the_name_of_a_stores_embeddings(models):
    first, second, _ = models
    assert image_fingerprint(ImageEncoderConfig(model=first)) != image_fingerprint(ImageEncoderConfig(model=second))
    names = {
        embedding_fingerprint(
            AppConfig(text_encoder=TextEncoderConfig(model=text), image_encoder=ImageEncoderConfig(model=image))
        )
        for text in (first, second)
        for image in (first, second)
    }
    assert len(names) == 4
