from pathlib import Path

import pytest

from mmrag.config import AppConfig
from mmrag.errors import ConfigurationError
from mmrag.model_files import check_models, from_hub

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    "models",
    [
        {},
        {"decoder": {"model": "google/flan-t5-base"}, "text_encoder": {"model": "bert-base-uncased"}},
        {"image_encoder": {"model": "torchvision:resnet50"}},
        {"image_encoder": {"model": str(ROOT / "atlas/weights/image_encoder")}},
    ],
)
def test_what_is_there_or_may_be_on_the_hub_passes(models):
    check_models(AppConfig.model_validate(models))


@pytest.mark.parametrize(
    ("section", "model", "words"),
    [
        ("decoder", "atlas/weights/fusion_decodr", "did you mean 'fusion_decoder'?"),
        ("decoder", "nowhere/at/all", "there is no folder nowhere/at/all; name a folder that `mmrag train` wrote"),
        ("decoder", "atlas/decoder", "there is no folder atlas/decoder"),
        ("decoder", "atlas/weights/image_encoder", "has no tokenizer.json"),
        ("decoder", "atlas", "has no config.json and no model.safetensors"),
        ("decoder", "t5-small", "google/flan-t5-base"),
        ("image_encoder", "./image_encoder", "torchvision:resnet50"),
        ("text_encoder", "/models/minilm", "there is no folder /models/minilm"),
    ],
)
def test_what_is_missing_is_said_with_the_mend(section, model, words):
    with pytest.raises(ConfigurationError) as caught:
        check_models(AppConfig.model_validate({section: {"model": model}}))
    assert str(caught.value).startswith(f"{section}.model: ") and words in str(caught.value)


def test_what_the_hub_refuses_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="'a name/of two words' is no folder here, and not to be had"):
        from_hub("a name/of two words", ["config.json"])
