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
