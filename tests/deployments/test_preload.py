import pytest

from deployments.preload import _note, _version, is_loaded
from deployments.service import preload
from mmrag.config import RetrieverConfig
from mmrag.errors import ConfigurationError


def test_a_file_is_loaded_once_and_again_when_it_changes(tmp_path):
    source, store = tmp_path / "knowledge.jsonl", tmp_path / "knowledge.sqlite"
    source.write_text('{"id": "a", "title": "A"}\n')
    assert not is_loaded(source, store)
    _note(store).write_text(_version(source))
    assert not is_loaded(source, store)  # noted, but the store was deleted
    store.touch()
    assert is_loaded(source, store)
    source.write_text('{"id": "b", "title": "B"}\n')
    assert not is_loaded(source, store)


def test_elasticsearch_is_filled_whatever_the_embedded_store_holds(tmp_path, monkeypatch):
    monkeypatch.setenv("MMRAG_STARTED_S", "0")
    source, store, config = (tmp_path / name for name in ("knowledge.jsonl", "knowledge.sqlite", "serve_config.yaml"))
    source.write_text('{"id": "a", "title": "A"}\n')
    store.touch()
    _note(store).write_text(_version(source))
    preload(config, RetrieverConfig(path=str(store), preload=str(source)))  # it is there
    config.write_text("applications: [{args: {retreiver: {}}}]")  # so that the attempt fails at once
    with pytest.raises(ConfigurationError, match="not ingested wholly: mend what is said above"):
        preload(config, RetrieverConfig(kind="elasticsearch", path=str(store), preload=str(source)))


def test_only_what_is_configured_is_loaded(tmp_path):
    store = tmp_path / "knowledge.sqlite"
    preload(tmp_path / "serve_config.yaml", RetrieverConfig(path=str(store)))
    assert not store.exists()
    with pytest.raises(ConfigurationError, match="preload"):
        preload(tmp_path / "serve_config.yaml", RetrieverConfig(path=str(store), preload=str(tmp_path / "none.jsonl")))
