import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from mmrag import cli
from mmrag.client import Client
from mmrag.console import print_report
from mmrag.errors import Unauthorized
from mmrag.types import IngestReport, Refusal

ROOT = Path(__file__).parent.parent


@pytest.fixture
def config(tmp_path) -> str:
    """A configuration with a store of its own and the trained models."""
    path = tmp_path / "serve_config.yaml"
    arguments = {
        "retriever": {"path": str(tmp_path / "knowledge.sqlite")},
        "image_encoder": {"model": str(ROOT / "atlas/weights/image_encoder")},
        "decoder": {"model": str(ROOT / "atlas/weights/fusion_decoder")},
    }
    path.write_text(yaml.safe_dump({"applications": [{"args": arguments}]}))
    return str(path)


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def write_countries(folder: Path) -> Path:
    documents = [
        {
            "id": "zubrovia",
            "title": "Zubrovia",
            "text": "Zubrovia is a country on the Sea of Glass. Its capital is Lutzport. One pays with the grosz.",
            "images": ["flag.png"],
            "metadata": {"size": 3},
        },
        {"id": "olmar", "title": "Olmar", "text": "The capital of Olmar is Veshtin. It borders Zubrovia."},
    ]
    (folder / "flag.png").write_bytes((ROOT / "atlas/images/country-np.png").read_bytes())
    path = folder / "countries.jsonl"
    path.write_text("\n".join(json.dumps(document) for document in documents) + '\n{"id": "bad", "titel": "x"}\n')
    return path


def test_ingest_then_ask_by_words_and_by_picture_in_one_process(config, tmp_path, capsys):
    knowledge = write_countries(tmp_path)
    assert run("ingest", str(knowledge), "--local", "--config", config) == 1
    report = capsys.readouterr()
    assert "2 documents written" in report.out and "1 refused" in report.out
    assert "countries.jsonl:3" in report.err and "'title'" in report.err
    assert "3/3" in report.err  # the bar's end

    assert run("ingest", str(knowledge), "--local", "--config", config) == 1
    assert "0 documents written" in (out := capsys.readouterr().out) and "2 unchanged" in out

    assert run("ask", "What is the capital of Zubrovia?", "--local", "--config", config, "--json", "--explain") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["answer"] == "Lutzport"
    assert answer["passages"][0]["document_id"] == "zubrovia"
    shares = answer["attribution"]["passages"]
    assert max(shares, key=shares.get) == "zubrovia#0"

    flag = str(tmp_path / "flag.png")
    assert run("ask", "capital?", "--image", flag, "--local", "--config", config) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "Lutzport" and "[zubrovia#0]" in shown

    assert run("search", "capital", "--filter", "size=3", "--local", "--config", config, "--json") == 0
    assert [p["document_id"] for p in json.loads(capsys.readouterr().out)["passages"]] == ["zubrovia"]


def test_a_report_names_each_line_once(capsys):
    refused = [Refusal("a.csv:2", "a.csv:2: no UTF-8"), Refusal("bad", "a.csv:3: unknown field")]
    print_report(IngestReport(refused=refused))
    assert capsys.readouterr().err == "  refused a.csv:2: no UTF-8\n  refused bad: a.csv:3: unknown field\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "nowhere.jsonl", "--local"], "nowhere.jsonl"),
        (["ask", "x", "--image", "nowhere.png"], "nowhere.png: No such file or directory"),
        (["ask", "x", "--url", "http://127.0.0.1:9"], "make serve"),
        (["ask", "x", "--filter", "size"], "write FIELD=VALUE"),
        (["ask", "x", "--local", "--config", "nowhere.yaml"], "--config"),
        (["eval", "nowhere"], "has no evaluate.py"),
        (["train", "nowhere"], "has no train.py"),
    ],
)
def test_a_mistake_is_said_in_one_line_that_names_the_mend(arguments, message, capsys):
    assert run(*arguments) == 1
    error = capsys.readouterr().err.strip()
    assert message in error and "Traceback" not in error and len(error.splitlines()) == 1


def test_a_missing_key_is_said_with_where_to_put_it(capsys, monkeypatch):
    def refuse(*_, **__):
        raise Unauthorized("give a valid API key")

    monkeypatch.setattr(Client, "answer", refuse)
    assert run("ask", "x") == 1
    assert "set MMRAG_API_KEY" in capsys.readouterr().err


def test_where_nothing_is_found_it_is_said_what_may_be_missing(config, capsys):
    assert run("ask", "What is the capital of Peru?", "--local", "--config", config) == 0
    assert "mmrag ingest" in capsys.readouterr().out


def test_an_unknown_configuration_key_is_named(tmp_path, capsys):
    path = tmp_path / "serve_config.yaml"
    path.write_text("applications:\n  - args: {text_encoder: {modle: x}}\n")
    assert run("ask", "x", "--local", "--config", str(path)) == 1
    assert "did you mean args.text_encoder.model?" in capsys.readouterr().err


def test_every_mmrag_command_in_the_readme_is_one(capsys):
    commands = re.findall(r"^\$ \.venv/bin/mmrag (.+?)(?:  +#.*)?$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        options = cli._parser().parse_args(shlex.split(command))
        for path in (getattr(options, "image", None), getattr(options, "folder", None)):
            assert path is None or (ROOT / path).exists(), command


def test_serve_hands_all_its_options_on(monkeypatch):
    started = []
    monkeypatch.setattr(cli.os, "execv", lambda program, command: started.append(command))
    options = {"--host": "0.0.0.0", "--port": "81", "--metrics-port": "82", "--config": "other.yaml"}
    run("serve", *(part for pair in options.items() for part in pair))
    [[_, _, module, *arguments]] = started
    assert module == "deployments.launch"
    assert dict(zip(arguments[::2], arguments[1::2], strict=True)) == options


@pytest.mark.parametrize(("value", "status"), [(0.96, 0), (0.94, 1)])
def test_eval_prints_the_table_and_fails_when_a_must_is_missed(tmp_path, capsys, value, status):
    folder = tmp_path / f"measured{status}"
    folder.mkdir()
    (folder / "evaluate.py").write_text(
        "from mmrag.evaluation import Row\n\n\n"
        f"def evaluate(quick):\n    return [Row('exact match', {value}, 100, at_least=0.95)]\n"
    )
    assert run("eval", str(folder)) == status
    printed = capsys.readouterr()
    assert f"| exact match | {100 * value:.1f} % | 100 | ≥ 95 % |" in printed.out
    assert ("missed: exact match" in printed.err) == bool(status)


def test_eval_compares_the_variants_of_a_folder(tmp_path, capsys):
    folder = tmp_path / "with_variants"
    folder.mkdir()
    (folder / "evaluate_variants.py").write_text(
        "from mmrag.evaluation import Row\n\n\n"
        "def evaluate_variants(folder, quick):\n"
        "    return {folder.name: [Row('named', 0.5, 8), Row('shown', 0.25, 4)]}\n"
    )
    assert run("eval", str(folder), "--variants", str(tmp_path / "dot")) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["| | named (8) | shown (4) |", "|---|---|---|", "| dot | 50.0 % | 25.0 % |"]
