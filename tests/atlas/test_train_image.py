import json

import numpy as np

from atlas.artists import ARTISTS, heldout_dir, thing_id
from atlas.train_image import allowed_pictures, atlas_dir
from mmrag.training.picture_bank import PictureSet


def drawn(keys: list[str], seed: int = 0) -> PictureSet:
    pictures = np.random.default_rng(seed).integers(0, 256, (len(keys), 80, 80, 4), dtype=np.uint8)
    pictures[..., 3] = 255
    blocks = pictures.reshape(len(keys), 16, 5, 16, 5, 4)
    return PictureSet(keys, np.broadcast_to(blocks[:, :, :1, :, :1], blocks.shape).reshape(pictures.shape))


def test_nothing_that_shows_a_held_out_thing_is_trained_on():
    atlas = drawn(["country-pe", "country-mc", "emoji-1f408", "emoji-1f9d1-200d-1f680"])
    other = drawn([*atlas.keys, "emoji-1f469-200d-1f680", "emoji-1f408-200d-2b1b", "emoji-1f415", "flag-xx-y"], 1)
    other.pictures.setflags(write=True)
    other.pictures[-1] = other.pictures[1]  # somebody's region flies Monaco's flag
    allowed = allowed_pictures(
        {"atlas": atlas, "other": other}, {"country-mc", "emoji-1f408", "emoji-1f9d1-200d-1f680"}, identical=[]
    )
    assert allowed["atlas"].keys == ["country-pe"]
    assert allowed["other"].keys == ["country-pe", "emoji-1f415"]


def test_a_thing_of_the_atlas_drawn_as_a_copy_of_a_held_out_one_is_left_out():
    atlas, other = drawn(["country-fr", "country-mf"]), drawn(["country-fr", "country-mf"], 1)
    other.pictures.setflags(write=True)
    other.pictures[0] = other.pictures[1]
    allowed = allowed_pictures({"atlas": atlas, "other": other}, {"country-mf"}, identical=[])
    assert allowed["atlas"].keys == ["country-fr"] and allowed["other"].keys == []


def test_identical_flags_are_one_thing():
    atlas = drawn(["country-bv", "country-no", "country-pe"])
    allowed = allowed_pictures({"atlas": atlas}, set(), identical=[["country-bv", "country-no"]])
    assert allowed["atlas"].keys == ["country-bv", "country-bv", "country-pe"]


def test_held_out_pictures_show_documents_and_their_licences_allow_sharing():
    documents = {json.loads(line)["id"] for line in (atlas_dir / "knowledge.jsonl").read_text().splitlines()}
    for folder in heldout_dir.iterdir():
        artist = ARTISTS[folder.name]
        assert artist.heldout and artist.licence in ("Apache-2.0", "CC0-1.0")
        assert {path.stem for path in folder.glob("*.png")} <= documents


def test_flags_get_the_id_of_their_country():
    assert thing_id("fxemoji", "franceflag") == "country-fr"
    assert thing_id("fxemoji", "rat") == "emoji-1f400"
    assert thing_id("fxemoji", "foxgrin") is None
