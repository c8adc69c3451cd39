import io
from pathlib import Path

import pytest
from PIL import Image

from atlas.splits import make_splits, read_splits

ATLAS = Path(__file__).parents[2] / "atlas"


@pytest.fixture(scope="module")
def splits():
    return read_splits()


def test_each_picture_is_on_exactly_one_side(splits):
    ids = [id for kind in ("countries", "emoji") for side in ("train", "test") for id in splits[kind][side]]
    assert len(ids) == len(set(ids))
    assert {f"{id}.png" for id in ids} == {path.name for path in (ATLAS / "images").iterdir()}


@pytest.mark.parametrize("kind", ["countries", "emoji"])
def test_a_fifth_is_held_out(splits, kind):
    num_train, num_test = len(splits[kind]["train"]), len(splits[kind]["test"])
    assert 0.15 < num_test / (num_train + num_test) < 0.25


def test_lookalikes_stay_on_one_side(splits):
    test = {id for kind in ("countries", "emoji") for id in splits[kind]["test"]}
    assert all(len({id in test for id in group}) == 1 for group in splits["lookalikes"])


@pytest.mark.parametrize("pair", [("ro", "td"), ("id", "mc"), ("no", "sj"), ("um", "us"), ("au", "hm"), ("fr", "mf")])
def test_known_lookalikes_are_found(splits, pair):
    assert any({f"country-{code}" for code in pair} <= set(group) for group in splits["lookalikes"])


def test_identical_pictures_are_among_the_lookalikes(splits):
    assert all(any(set(twins) <= set(group) for group in splits["lookalikes"]) for twins in splits["identical"])


def _flag(top: str, bottom: str) -> bytes:
    image = Image.new("RGBA", (60, 40), top)
    image.paste(bottom, (0, 20, 60, 40))
    image.save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def test_alike_is_decided_by_the_pixels():
    colours = {"a": ("red", "white"), "b": ("red", "white"), "c": ("#e80000", "white"), "d": ("blue", "black")}
    splits = make_splits({"countries": {id: _flag(*pair) for id, pair in colours.items()}})
    assert splits["lookalikes"] == [["a", "b", "c"]]
    assert splits["identical"] == [["a", "b"]]
