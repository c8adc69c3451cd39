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


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "model-00002-of-00003.safetensors", "pytorch_model-00001-of-00002.bin"]
)
def test_every_file_of_a_model_counts(tmp_path, name):
    names = set()
    for content in (b"1", b"2"):
        folder = tmp_path / content.decode() / "m"
        model(folder, b"same")
        (folder / name).write_bytes(content)
        names.add(text_fingerprint(TextEncoderConfig(model=str(folder))))
    assert len(names) == 2


def test_image_preprocessing_changes_the_name(tmp_path, monkeypatch):
    folder = tmp_path / "m"
    config = ImageEncoderConfig(model=model(folder, b"1"))
    before = image_fingerprint(config)
    monkeypatch.setattr("mmrag.encoders.fingerprint.PREPROCESSING_VERSION", "square-2")
    assert image_fingerprint(config) != before
    monkeypatch.undo()
    copy = tmp_path / "copy"
    (copy / "preprocessor_config.json").parent.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0]}')
    assert image_fingerprint(ImageEncoderConfig(model=str(copy))) != before


def test_other_torchvision_weights_have_another_name(tmp_path):
    weights = []
    for content in (b"1", b"2"):
        weights.append(tmp_path / content.decode())
        weights[-1].write_bytes(content)
    models = ["torchvision:resnet50", "torchvision:resnet18", *(f"torchvision:resnet50@{file}" for file in weights)]
    assert len({image_fingerprint(ImageEncoderConfig(model=model)) for model in models}) == 4
