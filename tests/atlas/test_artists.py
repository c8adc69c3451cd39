import pytest

from atlas import artists
from mmrag.errors import ConfigurationError


def test_a_missing_npm_is_named_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr(artists, "cache_dir", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="apt-get install npm"):
        artists.load_artist("cif")
    assert not list(tmp_path.glob("*.npz"))
