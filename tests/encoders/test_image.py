import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from mmrag.encoders.image import ImageEncoder
from mmrag.encoders.pixels import square
from mmrag.encoders.tower import ImageTower, TowerConfig
from mmrag.errors import ConfigurationError

tiny = TowerConfig({"kind": "residual", "widths": [8, 8, 16, 16]}, grid_dimension=4, dimension=24)


def picture(colour=(200, 30, 30), size=(90, 60), mode="RGB") -> np.ndarray:
    image = Image.new(mode, size, (0, 0, 0, 0) if mode == "RGBA" else (255, 255, 255))
    ImageDraw.Draw(image).ellipse((20, 10, 60, 50), fill=colour)
    return np.asarray(image)


def small_encoder(config: TowerConfig = tiny) -> ImageEncoder:
    torch.manual_seed(1)
    return ImageEncoder(ImageTower(config))


def test_embeddings_have_unit_length_and_grids_the_announced_shape():
    encoder = small_encoder()
    encoded = encoder.encode([picture(), picture((0, 90, 200), (40, 200)), picture(mode="RGBA")])
    assert encoded.embeddings.shape == (3, encoder.dimension) and encoded.embeddings.dtype == np.float32
    assert encoded.grids.shape == (3, 16, encoder.grid_dimension) and encoded.grids.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(encoded.embeddings, axis=1), 1, atol=1e-5)


def test_a_picture_is_encoded_alike_alone_and_in_company():
    encoder = small_encoder()
    pictures = [picture((10 * i, 80, 120), (50 + 9 * i, 64)) for i in range(7)]
    together = encoder.encode(pictures)
    alone = [encoder.encode([one]).embeddings[0] for one in pictures]
    np.testing.assert_allclose(together.embeddings, np.stack(alone), atol=1e-5)


def test_no_pictures_give_no_embeddings():
    encoded = small_encoder().encode([])
    assert encoded.embeddings.shape == (0, 24) and encoded.grids.shape == (0, 16, 4)


def test_saved_in_half_precision_and_loaded_it_sees_the_same(tmp_path):
    encoder = small_encoder()
    encoder.save(tmp_path)
    loaded = ImageEncoder.load(tmp_path)
    seen, expected = (e.encode([picture()]).embeddings for e in (loaded, encoder))
    np.testing.assert_allclose(seen, expected, atol=5e-3)
    num_values = sum(value.numel() for value in encoder.tower.state_dict().values())
    assert (tmp_path / "model.safetensors").stat().st_size < 2.5 * num_values + 20_000


def test_looks_at_several_scales_are_averaged():
    looks = [small_encoder(replace(tiny, scales=scales)) for scales in ((1.0,), (0.5,), (1.0, 0.5))]
    near, far, both = (encoder.encode([picture()]) for encoder in looks)
    middle = near.embeddings + far.embeddings
    np.testing.assert_allclose(both.embeddings, middle / np.linalg.norm(middle), atol=1e-5)
    assert (near.embeddings != far.embeddings).any()
    np.testing.assert_array_equal(both.grids, near.grids)


def test_transparent_margins_do_not_matter():
    encoder = small_encoder()
    bare = picture(mode="RGBA")
    framed = np.pad(bare, ((30, 5), (0, 70), (0, 0)))
    np.testing.assert_array_equal(square(bare, 64), square(framed, 64))
    seen = encoder.encode([bare, framed]).embeddings
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-6)


def test_colours_under_transparency_do_not_leak():
    hidden = np.full((40, 40, 4), 255, np.uint8)
    hidden[:20, :, 3] = 0
    hidden[:20, :, :3] = (255, 0, 0)
    hidden[0, 0] = hidden[39, 39] = (255, 255, 255, 255)
    edge = square(hidden, 24)
    assert (edge[edge[..., 3] > 0][:, :3] > 250).all()


def test_a_long_picture_is_padded_before_it_is_stretched():
    ribbon = np.full((10, 200, 3), 90, np.uint8)
    alpha = square(ribbon, 64)[..., 3]
    assert alpha[32].min() == 255 and alpha[0].max() == 0


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_anything_else_than_a_picture_is_refused(wrong):
    with pytest.raises(ValueError, match="uint8"):
        small_encoder().encode([wrong])


def test_a_missing_encoder_is_said_at_once(tmp_path):
    with pytest.raises(ConfigurationError, match="no image encoder"):
        ImageEncoder.load(tmp_path / "nothing")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    small_encoder().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"dimension": 25}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="do not fit"):
        ImageEncoder.load(tmp_path)


def test_unknown_backbones_are_refused():
    with pytest.raises(ConfigurationError, match="residual"):
        ImageTower(TowerConfig({"kind": "mystery"}))
    with pytest.raises(ConfigurationError, match="resnet"):
        ImageTower(TowerConfig({"kind": "torchvision", "name": "alexnet"}))


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "inception_v3"])
def test_torchvision_backbones_take_weights_from_a_file(tmp_path, name):
    from torchvision import models

    torch.manual_seed(3)
    options = {"init_weights": False} if name == "inception_v3" else {}
    model = models.get_model(name, weights=None, **options)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    encoder = ImageEncoder.load(f"torchvision:{name}@{tmp_path / 'weights.pth'}")
    parts = dict(model.named_children())
    first = parts["features"][0] if name == "vgg11" else next(iter(parts.values()))
    ours = encoder.tower.backbone.features[0]
    expected, taken = next(first.parameters()), next(ours.parameters())
    torch.testing.assert_close(taken, expected)
    encoded = encoder.encode([picture()])
    assert encoded.embeddings.shape == (1, 384) and encoded.grids.shape == (1, 16, 64)
    assert np.isfinite(encoded.embeddings).all()


def hugging_face_checkpoint(kind: str):
    import transformers as hf

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37}
    sees = small | {"image_size": 64, "patch_size": 16}
    reads = small | {"vocab_size": 50}
    torch.manual_seed(4)
    match kind:
        case "vit":
            return hf.ViTModel(hf.ViTConfig(**sees))
        case "clip":
            return hf.CLIPModel(hf.CLIPConfig(vision_config=sees, text_config=reads, projection_dim=16))
        case "siglip":
            return hf.SiglipModel(hf.SiglipConfig(vision_config=sees, text_config=reads))
        case "resnet":
            return hf.ResNetModel(hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))
        case "bert":
            return hf.BertModel(hf.BertConfig(**reads))


@pytest.mark.parametrize("kind", ["vit", "clip", "siglip", "resnet"])
def test_hugging_face_towers_give_the_same_features(tmp_path, kind):
    model = hugging_face_checkpoint(kind).eval()
    model.save_pretrained(tmp_path)
    encoder = ImageEncoder.load(str(tmp_path))
    pixels = torch.rand(2, 3, encoder.tower.config.side_px, encoder.tower.config.side_px)
    with torch.no_grad():
        maps = encoder.tower.backbone(pixels)
        states = getattr(model, "vision_model", model)(pixel_values=(pixels - 0.5) / 0.5).last_hidden_state
    if states.ndim == 3:
        patches = states[:, 1:] if kind in ("vit", "clip") else states
        states = patches.transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(maps, states, atol=1e-4, rtol=1e-4)
    assert encoder.encode([picture()]).grids.shape == (1, 16, 64)


def test_a_hugging_face_tower_is_saved_whole(tmp_path):
    hugging_face_checkpoint("vit").save_pretrained(tmp_path / "theirs")
    encoder = ImageEncoder.load(str(tmp_path / "theirs"))
    encoder.save(tmp_path / "ours")
    loaded = ImageEncoder.load(tmp_path / "ours")
    seen, expected = (e.encode([picture()]).embeddings for e in (loaded, encoder))
    np.testing.assert_allclose(seen, expected, atol=2e-2)


def test_a_model_that_cannot_see_is_refused(tmp_path):
    hugging_face_checkpoint("bert").save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="no vision tower"):
        ImageEncoder.load(str(tmp_path))
