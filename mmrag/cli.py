"""The command line: mmrag ingest | ask | search | eval | train | reindex | serve."""

import argparse
import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmrag.client import DEFAULT_URL, Client
from mmrag.console import documents_with_progress, print_report, readable
from mmrag.errors import InvalidRequest, MmragError, Unauthorized
from mmrag.types import MetadataValue

AddParser = Callable[..., argparse.ArgumentParser]

API_KEY = "MMRAG_API_KEY"
"""The environment variable that holds the key of the service asked."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except MmragError as error:
        mend = f"; here: set {API_KEY} to it" if isinstance(error, Unauthorized) else ""
        print(f"mmrag: {error}{mend}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mmrag", description="Ask a knowledge base of texts and images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_ingest, _add_queries, _add_eval, _add_train, _add_reindex, _add_serve):
        add(commands.add_parser)
    return parser


def _add_ingest(add_parser: AddParser) -> None:
    ingest = add_parser("ingest", help="add a JSONL or CSV file or a folder of pictures")
    ingest.add_argument("path", type=Path)
    _add_where(ingest)
    ingest.set_defaults(command=_ingest)


def _add_queries(add_parser: AddParser) -> None:
    for name, command, text in (
        ("ask", _ask, "ask a question with text, an image, or both"),
        ("search", _search, "show what would be read to answer"),
    ):
        query = add_parser(name, help=text)
        query.add_argument("text", nargs="?", help="the question")
        query.add_argument("--image", type=Path, help="a PNG, JPEG, WebP or GIF file")
        query.add_argument("--top-k", type=int, default=5, help="passages to read (default 5)")
        query.add_argument("--filter", action="append", default=[], metavar="FIELD=VALUE", help="only such documents")
        query.add_argument("--json", action="store_true", help="print the whole answer as JSON")
        _add_where(query)
        query.set_defaults(command=command)
        if name == "ask":
            query.add_argument("--task", choices=["answer", "caption", "classify"], default="answer")
            query.add_argument("--label", action="append", default=[], help="for classify: choose among these")
            query.add_argument("--explain", action="store_true", help="say which passage and words were used")


def _add_eval(add_parser: AddParser) -> None:
    evaluate = add_parser("eval", help="print the table of a folder such as atlas; 1 when a must is missed")
    evaluate.add_argument("folder", type=Path)
    evaluate.add_argument("--quick", action="store_true", help="a sample of the questions")
    evaluate.add_argument("--store", choices=["sqlite", "elasticsearch"], help="where the knowledge is kept meanwhile")
    evaluate.add_argument("--variants", type=Path, metavar="DIR", help="compare the decoders trained there instead")
    evaluate.set_defaults(command=_eval)


def _add_train(add_parser: AddParser) -> None:
    train = add_parser(
        "train", help="train the models of a folder such as atlas, or a T5 on your questions; resumes where it stopped"
    )
    train.add_argument("folder", type=Path, nargs="?")
    train.add_argument("--only", choices=["image", "decoder"], help="one of the two models of the folder")
    train.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    train.add_argument("--questions", type=Path, help="a JSONL file: text and/or image, and the answer wanted")
    train.add_argument("--base", default="google/flan-t5-small", help="with --questions: a T5, which stays as it is")
    train.add_argument("--out", type=Path, help="with --questions: where the trained decoder goes")
    train.add_argument("--steps", type=int, default=1_000, help="with --questions (default 1000)")
    train.add_argument("--config", type=Path, default=Path("serve_config.yaml"), help="with --questions: its knowledge")
    train.set_defaults(command=_train)


def _add_reindex(add_parser: AddParser) -> None:
    reindex = add_parser("reindex", help="build the next version of the Elasticsearch index, then swap")
    reindex.add_argument("--config", type=Path, default=Path("serve_config.yaml"), help="what the next version is for")
    reindex.set_defaults(command=_reindex)


def _add_serve(add_parser: AddParser) -> None:
    serve = add_parser("serve", help="serve over HTTP on this machine; Ctrl-C stops")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--metrics-port", type=int, help="for Prometheus (default 8080, or any)")
    serve.add_argument("--config", type=Path, default=Path("serve_config.yaml"))
    serve.set_defaults(command=_serve)


def _add_where(parser: argparse.ArgumentParser) -> None:
    url = os.environ.get("MMRAG_URL", DEFAULT_URL)
    parser.add_argument("--url", default=url, help=f"the service (default {DEFAULT_URL}, or $MMRAG_URL)")
    parser.add_argument("--local", action="store_true", help="do it in this process, without a service")
    parser.add_argument("--config", type=Path, default=Path("serve_config.yaml"), help="with --local: what to load")


def _ingest(options: argparse.Namespace) -> int:
    if options.local:
        from mmrag.config_file import read_config
        from mmrag.local import Local

        config = read_config(options.config)
        with documents_with_progress(options.path, config.limits) as documents:
            report = asyncio.run(Local(config, has_decoder=False).ingest(documents))
    else:
        with documents_with_progress(options.path) as documents:
            report = _client(options).ingest(documents)
    print_report(report)
    return 1 if report.refused else 0


def _ask(options: argparse.Namespace) -> int:
    return _query(options, "answer", task=options.task, labels=options.label, explain=options.explain)


def _search(options: argparse.Namespace) -> int:
    return _query(options, "search")


def _query(options: argparse.Namespace, verb: str, **more: Any) -> int:
    fields = {"text": options.text, "image": _read_image(options.image), "top_k": options.top_k} | more
    fields["filters"] = _filters(options.filter)
    if options.local:
        from mmrag.config_file import read_config
        from mmrag.local import Local

        local = Local(read_config(options.config), has_decoder=verb == "answer")
        answer = asyncio.run(local.query(verb, fields))
    else:
        answer = getattr(_client(options), verb)(**fields)
    print(json.dumps(answer, ensure_ascii=False, indent=2) if options.json else readable(answer))
    return 0


def _eval(options: argparse.Namespace) -> int:
    from mmrag.evaluation import as_columns, as_markdown

    if options.variants:
        print(as_columns(_of_folder(options.folder, "evaluate_variants")(options.variants, quick=options.quick)))
        return 0
    chosen = {"store": options.store} if options.store else {}
    rows = _of_folder(options.folder, "evaluate")(quick=options.quick, **chosen)
    print(as_markdown(rows))
    missed = [row.name for row in rows if not row.is_met]
    if missed:
        print(f"\nmissed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _train(options: argparse.Namespace) -> int:
    if options.questions is not None:
        return _train_on_questions(options)
    if options.folder is None:
        raise InvalidRequest("name a folder such as atlas, or --questions FILE.jsonl --base T5 --out FOLDER")
    _of_folder(options.folder, "train")(only=options.only, device=options.device)
    return 0


def _train_on_questions(options: argparse.Namespace) -> int:
    from mmrag.config_file import read_config
    from mmrag.training.decoder_config import DecoderTrainingConfig
    from mmrag.training.questions import train_on_questions

    if options.out is None:
        raise InvalidRequest("--out: name a folder for the trained decoder")
    training = DecoderTrainingConfig(num_steps=options.steps, max_batch=16, learning_rate=1e-3, frozen_base=True)
    config = read_config(options.config)
    train_on_questions(options.questions, options.base, options.out, config, training, options.device)
    print(f"the decoder is in {options.out}: name it as `decoder: model:` in {options.config} and start the service")
    return 0


def _reindex(options: argparse.Namespace) -> int:
    from mmrag.config_file import read_config
    from mmrag.reindexing import reindex

    print(asyncio.run(reindex(read_config(options.config))))
    return 0


def _serve(options: argparse.Namespace) -> int:
    # Replaces this process, so that signals reach the service itself.
    arguments = ["--host", options.host, "--port", str(options.port), "--config", str(options.config)]
    if options.metrics_port is not None:
        arguments += ["--metrics-port", str(options.metrics_port)]
    os.execv(sys.executable, [sys.executable, "-m", "deployments.launch", *arguments])


def _of_folder(folder: Path, name: str) -> Callable[..., Any]:
    """The function `name` of the module `name` in a folder such as atlas/."""
    if not (folder / f"{name}.py").is_file():
        raise InvalidRequest(f"{folder} has no {name}.py; this works on folders such as atlas/")
    sys.path.insert(0, str(folder.resolve().parent))
    return getattr(importlib.import_module(f"{folder.resolve().name}.{name}"), name)


def _client(options: argparse.Namespace) -> Client:
    return Client(options.url, api_key=os.environ.get(API_KEY))


def _read_image(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"--image {path}: {error.strerror}") from error


def _filters(pairs: list[str]) -> dict[str, MetadataValue]:
    filters: dict[str, MetadataValue] = {}
    for pair in pairs:
        field, separator, value = pair.partition("=")
        if not separator:
            raise InvalidRequest(f"--filter {pair}: write FIELD=VALUE")
        filters[field] = _scalar(value)
    return filters


def _scalar(value: str) -> MetadataValue:
    """Numbers, true and false as such; everything else is a string."""
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        return value
    return parsed if isinstance(parsed, (int, float, bool)) else value


if __name__ == "__main__":
    sys.exit(main())
