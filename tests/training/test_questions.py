"""A plain T5 learns to use evidence from a user's own questions, and stays as it was underneath."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from decoder.small import DIMENSION, GRID, request, vector
from decoder.t5 import save_t5

from mmrag import cli
from mmrag.config import AppConfig
from mmrag.decoder import FusionDecoder
from mmrag.decoder.additions import addition_names, let_learn, with_additions
from mmrag.decoder.weights import find_weights, read_parts
from mmrag.errors import InvalidRequest
from mmrag.training.data import Example
from mmrag.training.decoder import train_decoder
from mmrag.training.decoder_config import DecoderTrainingConfig
from mmrag.training.questions import endless, read_all_questions, read_questions, widths
from tests.conftest import config_for
from tests.deployments.pictures import png

PLACES = ["Lima", "Quito", "Bogota", "Oslo", "Riga", "Bern", "Accra", "Sofia"]
SHAPE = dict(feed_forward_proj="relu", d_model=32, d_kv=8, num_heads=4, num_layers=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("t5")
    save_t5(directory, [f"question: capital? title: p0 context: {place}" for place in PLACES], **SHAPE)
    return directory


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """The answer stands in the passage whose similarities lead."""
    made = []
    for i, place in enumerate(PLACES):
        asked = request("capital?", 2)
        asked.passages[i % 2].text, asked.passages[1 - i % 2].text = place, PLACES[i - 3]
        for k, passage in enumerate(asked.passages):
            passage.similarities = {"text_text": float(k == i % 2)}
        made.append(Example(asked, place, i % 2))
    return made


def added(base: Path, examples: list[Example], **changes) -> FusionDecoder:
    plain = FusionDecoder.load(str(base))
    return FusionDecoder(with_additions(plain.model, **widths(examples), **changes), plain.tokenizer)


@pytest.mark.parametrize("fusion", ["dual_stream", "cross_modal"])
def test_untrained_additions_change_no_token(base, examples, fusion):
    requests = [example.request for example in examples]
    plain = FusionDecoder.load(str(base)).decode(requests)
    with_closed_gates = added(base, examples, fusion=fusion).decode(requests)
    assert [answer.text for answer in with_closed_gates] == [answer.text for answer in plain]
    assert any(answer.text for answer in plain)


def test_training_lowers_the_loss_and_leaves_the_base_as_it_was(base, examples, tmp_path):
    config = DecoderTrainingConfig(
        num_steps=60, max_batch=8, learning_rate=1e-2, num_warmup=5, bf16=False, save_every=20, frozen_base=True
    )
    decoder = train_decoder(added(base, examples), endless(examples), config, tmp_path)
    losses = [json.loads(line)["answer"] for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.7 * losses[0]
    assert (tmp_path / "curve.png").is_file()
    before, after = (dict((n, p.clone()) for n, p in read_parts(find_weights(d), None)) for d in (base, tmp_path))
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert set(after) - set(before) == addition_names(decoder.model)
    saved = torch.load(tmp_path / "last.pt", weights_only=True)["model"]
    assert set(saved) == addition_names(decoder.model)  # a large base is not written again and again
    requests = [example.request for example in examples]
    loaded = FusionDecoder.load(str(tmp_path))
    assert [a.text for a in loaded.decode(requests)] == [a.text for a in decoder.decode(requests)]


def test_gates_that_could_stay_shut_are_opened_once(base, examples):
    model = added(base, examples, fusion="cross_modal").model
    let_learn(model)
    assert model.pointer.gate == 1 and 0 < model.joint_gate < 0.5
    model.pointer.gate.data.fill_(0.4)
    let_learn(model)
    assert model.pointer.gate == pytest.approx(0.4)


def test_a_frozen_run_goes_on_where_it_stopped(base, examples, tmp_path):
    config = dict(max_batch=4, bf16=False, save_every=5, frozen_base=True)

    class Stopped(Exception):
        pass

    def stop(progress: float) -> None:
        if progress >= 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        train_decoder(
            added(base, examples), endless(examples), DecoderTrainingConfig(num_steps=10, **config), tmp_path,
            on_progress=stop,
        )
    seen = []
    train_decoder(
        added(base, examples), endless(examples), DecoderTrainingConfig(num_steps=10, **config), tmp_path,
        on_progress=seen.append,
    )
    assert seen[0] == 0.5 and len(seen) == 5


def test_questions_are_read_for_a_base_that_was_trained_with_it(examples):
    examples = deepcopy(examples)
    read_all_questions(examples, None)
    assert examples[0].request.question_states.shape == (2, DIMENSION)  # left as they are
    read_all_questions(examples, lambda text: np.full((2, 3), len(text)))
    assert all((example.request.question_states == len("capital?")).all() for example in examples)


def test_widths_are_those_of_the_embeddings(examples):
    assert widths(examples) == {"text_dimension": DIMENSION, "image_dimension": DIMENSION, "grid_dimension": GRID[1]}


def test_a_plain_t5_reads_what_the_picture_found(base):
    decoder = FusionDecoder.load(str(base))
    asked = request(None, 3, text_embedding=None)
    asked.passages[1].similarities, asked.passages[1].title = {"image_image": 0.99}, "Peru"
    for prompt in decoder.inputs.prompts.build(asked):
        words = decoder.tokenizer.decode(prompt.ids)
        assert "What does the picture show? picture: Peru" in words
        assert asked.passages[prompt.passage].text in words
    both = decoder.tokenizer.decode(decoder.inputs.prompts.build(request("capital?", 1))[0].ids)
    assert "question: capital? picture: p0" in both
    alone = decoder.inputs.prompts.build(request("capital?", 0, image_embedding=vector(1)))
    assert decoder.tokenizer.decode(alone[0].ids).strip().startswith("capital?")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "x"}', "answer"),
        ('{"answer": "x"}', "empty"),
        ('{"text": "x", "answer": "y", "anwser": "z"}', "anwser"),
        ('{"text": "x", "answer": "y", "image": "../x.png"}', "outside"),
        ("[1]", "object"),
        ("{", ":2:"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"text": "a?", "answer": "b"}\n' + line + "\n")
    with pytest.raises(InvalidRequest, match=said) as raised:
        read_questions(path, AppConfig())
    assert "questions.jsonl:2" in str(raised.value)


@pytest.fixture
def serve_config(base, models, tmp_path) -> Path:
    """A configuration with the plain T5 as its decoder, and a store with eight places."""
    config = config_for(models, tmp_path).model_dump(mode="json", exclude_defaults=True)
    config["decoder"]["model"] = str(base)
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump({"applications": [{"args": config}]}))
    folder = tmp_path / "places"
    folder.mkdir()
    rows = []
    for i, place in enumerate(PLACES):
        (folder / f"{i}.png").write_bytes(png((30 * i, 255 - 30 * i, 90)))
        row = {"id": f"d{i}", "title": f"country {i}", "text": f"Its capital is {place}."}
        rows.append(row | {"images": [f"{i}.png"]})
    (folder / "knowledge.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert cli.main(["ingest", str(folder), "--local", "--config", str(path)]) == 0
    return path


def test_a_plain_t5_serves_and_is_trained_from_the_command_line(serve_config, tmp_path, capsys):
    picture = str(tmp_path / "places" / "3.png")
    ask = ["ask", "capital?", "--image", picture, "--local", "--json", "--config", str(serve_config)]
    assert cli.main(ask) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["passages"][0]["document_id"] == "d3"
    questions = [{"text": f"What is the capital of country {i}?", "answer": PLACES[i]} for i in range(4)]
    questions += [{"image": f"places/{i}.png", "text": "capital?", "answer": PLACES[i]} for i in range(4, 8)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    train = ["train", "--questions", str(tmp_path / "questions.jsonl"), "--base", json_model(serve_config)]
    train += ["--out", str(tmp_path / "out"), "--steps", "20", "--device", "cpu", "--config", str(serve_config)]
    assert cli.main(train) == 0
    assert "decoder: model:" in capsys.readouterr().out
    assert {"config.json", "model.safetensors", "tokenizer.json", "curve.png", "training.jsonl"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    serve_config.write_text(serve_config.read_text().replace(json_model(serve_config), str(tmp_path / "out")))
    assert cli.main(ask) == 0
    assert json.loads(capsys.readouterr().out)["passages"][0]["document_id"] == "d3"


def json_model(serve_config: Path) -> str:
    return yaml.safe_load(serve_config.read_text())["applications"][0]["args"]["decoder"]["model"]
