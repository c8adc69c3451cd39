from deployments.demo import KNOWLEDGE, _note, _version, needs_atlas


def test_the_atlas_is_ingested_once_and_again_when_it_changes(tmp_path):
    config, store = tmp_path / "serve_config.yaml", tmp_path / "knowledge.sqlite"
    assert not needs_atlas(config, store)  # no atlas beside this configuration
    source = tmp_path / KNOWLEDGE
    source.parent.mkdir()
    source.write_text('{"id": "a", "title": "A"}\n')
    assert needs_atlas(config, store)
    _note(store).write_text(_version(source))
    assert needs_atlas(config, store)  # noted, but the store was deleted
    store.touch()
    assert not needs_atlas(config, store)
    source.write_text('{"id": "b", "title": "B"}\n')
    assert needs_atlas(config, store)
