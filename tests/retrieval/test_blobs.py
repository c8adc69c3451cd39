import subprocess
import sys

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


WRITES_ON_A_SMALL_DISK = """
import resource, signal, sys
from mmrag.retrieval.blobs import FileBlobs
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
FileBlobs(sys.argv[1]).put("a", "x", bytes(1_000))
"""


def test_what_could_not_be_written_leaves_nothing_behind(tmp_path):
    """In a process of its own: the limit holds for every file of a process, the tests' own output included."""
    written = subprocess.run(
        [sys.executable, "-c", WRITES_ON_A_SMALL_DISK, str(tmp_path / "blobs")], stderr=subprocess.PIPE, text=True
    )
    assert written.returncode == 1
    assert "mmrag.errors.Unavailable" in written.stderr and "File too large" in written.stderr
    assert FileBlobs(tmp_path / "blobs").get("a", "x") is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
