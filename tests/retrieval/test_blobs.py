import resource
import signal

import pytest

from mmrag.retrieval.blobs import FileBlobs


def test_blobs_are_kept_for_each_tenant_apart(tmp_path):
    blobs = FileBlobs(tmp_path / "blobs")
    blobs.put("a", "x", b"one")
    blobs.put("a", "x", b"never written again")
    blobs.put("b", "x", b"two")
    assert (blobs.get("a", "x"), blobs.get("b", "x"), blobs.get("c", "x")) == (b"one", b"two", None)
    blobs.delete("a", "x")
    blobs.delete("a", "x")
    assert (blobs.get("a", "x"), blobs.get("b", "x")) == (None, b"two")


def test_no_name_leads_out_of_the_folder(tmp_path):
    blobs = FileBlobs(tmp_path / "blobs")
    for name in ("../../outside", "/tmp/outside", "", "\ud800", "a" * 5_000):
        blobs.put("../..", name, name.encode("utf-8", "replace"))
        assert blobs.get("../..", name) == name.encode("utf-8", "replace")
    assert [path.name for path in tmp_path.iterdir()] == ["blobs"]


@pytest.fixture
def small_disk():
    """No file may become larger than 100 bytes."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_what_could_not_be_written_leaves_nothing_behind(tmp_path, small_disk):
    blobs = FileBlobs(tmp_path / "blobs")
    with pytest.raises(OSError):
        blobs.put("a", "x", bytes(1_000))
    assert blobs.get("a", "x") is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
