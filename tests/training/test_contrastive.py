import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmrag import bfloat16
from mmrag.encoders.image import ImageEncoder
from mmrag.encoders.tower import TowerConfig
from mmrag.training.augment import augment
from mmrag.training.contrastive import (
    ContrastiveConfig,
    ContrastiveTraining,
    Validation,
    train_image_tower,
)
from mmrag.training.picture_bank import PictureBank, PictureSet

side_px = 32
quick = ContrastiveConfig(
    tower=TowerConfig({"kind": "residual", "widths": [8, 16, 32]}, side_px, (4, 4), 16, 32),
    num_steps=60, num_things=12, num_views=2, warmup_steps=5, ema_decay=0.9,
    validation_every_steps=20, checkpoint_every_steps=15,
)  # fmt: skip


def two_artists(num_things: int = 12) -> dict[str, PictureSet]:
    """Two-coloured flags; one artist draws them with borders, the other round."""
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (num_things, 2, 3))
    flat = np.full((num_things, 40, 40, 4), 255, np.uint8)
    flat[:, :20, :, :3], flat[:, 20:, :, :3] = colours[:, :1, None], colours[:, 1:, None]
    bordered, round_ = flat.copy(), flat.copy()
    bordered[:, [0, 1, 38, 39], :, :3] = bordered[:, :, [0, 1, 38, 39], :3] = 0
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    round_[:, x**2 + y**2 > 1, 3] = 0
    keys = [f"flag-{i}" for i in range(num_things)]
    return {"bordered": PictureSet(keys, bordered), "round": PictureSet(keys, round_)}


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_training_finds_a_thing_drawn_by_another_artist(device, tmp_path):
    artists = two_artists()
    validation = Validation(artists["bordered"], artists["round"])
    random = np.random.default_rng(1).normal(size=(12, 1, 32)).astype(np.float32)
    texts = {f"flag-{i}": text / np.linalg.norm(text) for i, text in enumerate(random)}
    train_image_tower(artists, texts, quick, tmp_path, validations={"other artist": validation}, device=device)
    lines = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert lines[-1]["loss"] < lines[0]["loss"] and lines[-1]["other artist"] >= 0.75
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert ImageEncoder.load(tmp_path / "encoder").dimension == 32


@pytest.mark.parametrize("is_faster", [True, False])
def test_products_are_in_bfloat16_only_where_that_is_faster(is_faster, monkeypatch):
    monkeypatch.setattr(bfloat16, "is_faster", lambda device: is_faster)
    training, seen = ContrastiveTraining(PictureBank(two_artists(), {}), None, quick), set()
    training.tower.register_forward_hook(lambda *_: seen.add(torch.is_autocast_enabled("cpu")))
    training.advance()
    assert seen == {is_faster}


def test_an_interrupted_run_ends_where_an_unbroken_one_ends(tmp_path):
    class Interrupted(Exception):
        pass

    def interrupt(step: int) -> None:
        if step == 20:
            raise Interrupted

    config = replace(quick, num_steps=30)
    whole = train_image_tower(two_artists(), None, config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train_image_tower(two_artists(), None, config, tmp_path / "broken", on_step=interrupt)
    resumed = train_image_tower(two_artists(), None, config, tmp_path / "broken")
    for one, other in zip(whole.tower.parameters(), resumed.tower.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    train_image_tower(two_artists(), None, replace(quick, num_steps=2), tmp_path)
    with pytest.raises(ValueError, match="another configuration"):
        train_image_tower(two_artists(), None, replace(quick, num_steps=3), tmp_path)


def test_a_batch_shows_each_thing_by_different_artists():
    bank = PictureBank(two_artists(), {})
    things, pictures = bank.draw(6, 2, np.random.default_rng(0))
    assert things.tolist() == things[::2].repeat_interleave(2).tolist() and len(set(things.tolist())) == 6
    assert pictures.shape == (12, 40, 40, 4)
    assert all((pictures[i] != pictures[i + 1]).any() for i in range(0, 12, 2))


def test_groups_get_their_share_of_a_batch():
    artist = PictureSet(
        [f"flag-{i}" for i in range(50)] + [f"face-{i}" for i in range(50)],
        np.zeros((100, 4, 4, 4), np.uint8),
    )
    bank = PictureBank({"one": artist}, {"flag": 0.25})
    things, _ = bank.draw(20, 1, np.random.default_rng(0))
    assert sum(bank.keys[thing].startswith("flag") for thing in things) == 5


def test_augmentation_changes_pictures_but_not_what_they_show():
    pictures = torch.from_numpy(two_artists(4)["bordered"].pictures).repeat(50, 1, 1, 1)
    images = augment(pictures, side_px, torch.Generator().manual_seed(0))
    assert images.shape == (200, 3, side_px, side_px) and images.min() >= 0 and images.max() <= 1
    assert all((images[i] - images[i + 4]).abs().mean() > 0.01 for i in range(100))
    upper, lower = images[:, :, 8:14, 12:20].mean((2, 3)), images[:, :, 18:24, 12:20].mean((2, 3))
    truth = pictures[:, [10, 30], 20, :3].float() / 255
    straight = (upper - truth[:, 0]).norm(dim=1) + (lower - truth[:, 1]).norm(dim=1)
    mirrored = (upper - truth[:, 1]).norm(dim=1) + (lower - truth[:, 0]).norm(dim=1)
    assert (straight < mirrored).float().mean() > 0.9


def test_augmentation_follows_its_seed():
    pictures = torch.from_numpy(two_artists(4)["round"].pictures)
    first, again, other = (augment(pictures, side_px, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
