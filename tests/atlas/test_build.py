from pathlib import Path

import pytest

import atlas.build
from atlas.build import build, missing_sources

ATLAS = Path(atlas.build.__file__).parent


@pytest.mark.skipif(missing_sources() is not None, reason=str(missing_sources()))
def test_the_build_reproduces_what_is_committed(tmp_path):
    build(tmp_path)
    built = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    differing = [path for path in built if (tmp_path / path).read_bytes() != (ATLAS / path).read_bytes()]
    assert not differing
    assert {path.name for path in (ATLAS / "images").iterdir()} == {p.name for p in built if p.suffix == ".png"}


def test_a_missing_source_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(atlas.build, "PACKAGES", {Path("/nowhere/data.noun"): "wordnet-base"})
    assert "apt-get install wordnet-base" in missing_sources()


def test_other_versions_of_the_facts_are_refused(monkeypatch):
    monkeypatch.setattr(atlas.build, "PACKAGES", {})
    monkeypatch.setattr(atlas.build, "VERSIONS", {"pillow": "0.0.1"})
    assert "pip install pillow==0.0.1" in missing_sources()
