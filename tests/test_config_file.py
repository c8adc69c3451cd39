import re
from pathlib import Path

import pytest
import yaml

from mmrag.config import AppConfig
from mmrag.config_file import read_config, read_options
from mmrag.errors import ConfigurationError

ROOT = Path(__file__).parent.parent


def written(folder: Path, text: str) -> Path:
    path = folder / "serve_config.yaml"
    path.write_text(text)
    return path


def args(text: str) -> str:
    return f"applications:\n  - args: {text}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            args("{text_encoder: {modle: x}}"),
            "no setting args.text_encoder.modle: did you mean args.text_encoder.model?",
        ),
        (args("{retreiver: {}}"), "did you mean args.retriever?"),
        (args("{tensor_parallel_size: 2}"), "did you mean args.decoder.tensor_parallel_size?"),
        (args("{cache: {colour: red}}"), "no setting args.cache.colour; there are max_entries, redis_url"),
        (args("{retriever: {kind: mysql}}"), "args.retriever.kind should be 'sqlite' or 'elasticsearch', not 'mysql'"),
        (
            args("{decoder: {max_batch: 0, x: 1}}"),
            "args.decoder.max_batch should be greater than or equal to 1, not 0; ",
        ),
        (args("{decoder: {max_passages: -1}}"), "args.decoder.max_passages should be greater than or equal"),
        (args("{decoder: {memory_bytes: -5}}"), "args.decoder.memory_bytes should be"),
        (args("{decoder: {max_queued_requests: -1}}"), "args.decoder.max_queued_requests should be"),
        (args("{decoder: {num_threads: -2}}"), "args.decoder.num_threads should be"),
        (args("{decoder: {max_passage_tokens: 0}}"), "args.decoder.max_passage_tokens should be"),
        (args("{limits: {timeout_s: 0}}"), "args.limits.timeout_s should be greater than 0, not 0"),
        (args("{cache: {max_entries: -1}}"), "args.cache.max_entries should be"),
        (args("{decoder: google/flan-t5-base}"), "args.decoder should be a valid dictionary"),
        ("applications:\n  - args:\n      decoder: {model: x\n  - b", "line 4, column 6: this is not YAML"),
        ("applications:\n\t- args", "line 2, column 1: this is not YAML"),
        ("application: []", "has no `applications:`"),
        ("", "has no `applications:`"),
    ],
)
def test_a_mistake_is_said_with_its_file_place_and_mend(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_config(path)
    message = str(caught.value)
    assert words in message and message.startswith(str(path))
    assert "pydantic" not in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(("limit", "writes", "allowed"), [(256, 32, 32), (16, 32, 16)])
def test_no_more_is_allowed_than_the_decoder_writes(limit, writes, allowed):
    sections = {"limits": {"max_new_tokens": limit, "max_top_k": 3}, "decoder": {"max_new_tokens": writes}}
    limits = AppConfig.model_validate(sections).query_limits
    assert (limits.max_new_tokens, limits.max_top_k) == (allowed, 3)


def test_paths_are_relative_to_the_file_wherever_it_is_read_from(tmp_path, monkeypatch):
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project / "my" / "decoder", elsewhere):
        folder.mkdir(parents=True)
    retriever = "{path: k.sqlite, elasticsearch: {ca_certs: ca.pem, images_path: /i}}"
    models = "decoder: {model: my/decoder}, text_encoder: {model: a/b}"
    path = written(project, args(f"{{{models}, retriever: {retriever}}}"))
    for here, decoder, store in (
        (project, "my/decoder", "k.sqlite"),
        (elsewhere, "../project/my/decoder", "../project/k.sqlite"),
    ):
        monkeypatch.chdir(here)
        config = read_config(path)
        assert (config.decoder.model, config.retriever.path) == (decoder, store)
        assert config.text_encoder.model == "a/b"  # no folder: a name
        elasticsearch = config.retriever.elasticsearch
        assert elasticsearch.ca_certs == store.replace("k.sqlite", "ca.pem") and elasticsearch.images_path == "/i"
        assert config.retriever.preload is None


def test_the_configuration_that_the_readme_shows_is_one():
    blocks = re.findall(r"```yaml\n(args:\n.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        AppConfig.model_validate(yaml.safe_load(block)["args"])


def test_the_configurations_of_the_project_are_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path in (Path("serve_config.yaml"), *Path("cluster").glob("serve_config*.yaml")):
        assert read_config(path).retriever
        assert read_options(path)
