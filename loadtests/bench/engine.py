"""The decoding engine against Hugging Face on the same checkpoints, and against its own limit.

    python -m loadtests.bench.engine [--scale 0.1] [--parts atlas flan-t5-small] [--rounds 3]

The checkpoints are plain T5s with random weights, `atlas` one of the shape of the atlas decoder. That decoder itself,
`atlas-decoder`, has additions that Hugging Face cannot run: it has its own limit to compare with. Both sides take
turns in one process with the same number of threads. Prints ratio and must of every row, writes
loadtests/results/engine.json and .md with hardware, versions and commit, and fails when a must is missed.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from loadtests.bench.engine_atlas import AskedOfAtlas, alike_questions, mixed_questions, write_on
from loadtests.bench.engine_sides import CTranslate2, HuggingFace, Ours, Run
from loadtests.bench.engine_workload import DECODER, SHAPES, Asked, alike, make_checkpoint, mixed, title
from loadtests.bench.rows import Row, as_markdown
from loadtests.machine import describe

ATLAS_DECODER = "atlas-decoder"
PARTS = [ATLAS_DECODER, *SHAPES]
RESULTS = Path(__file__).parent.parent / "results"
STATIC_BATCH = 16
NUM_LENGTHS = 4
POISSON_SHARE = 0.5
"""Requests arrive over this share of the time that the engine takes for all of them at once: twice as fast as it can
answer, so that a queue forms on both sides and what is measured is who answers faster, not how fast requests came."""
SINGLY_EACH = 4
"""One at a time Hugging Face answers every fourth request only: its tokens/s are a mean over requests."""


def measure(shape: str, num: int, rounds: int, scale: float, directory: Path) -> list[Row]:
    """All rows of one shape."""
    checkpoint = make_checkpoint(shape, directory / shape)
    requests = mixed(num, SHAPES[shape]["vocab_size"], scale)
    ours, batches = Ours(checkpoint), HuggingFace(checkpoint, STATIC_BATCH)
    singly = HuggingFace(checkpoint, 1)
    warm_up(ours, batches, requests)
    name = title(shape)
    rows = alone(name, ours, singly, requests, rounds)
    rows += at_once(name, ours, batches, singly, requests, rounds)
    rows += limit(name, ours, requests, alike(requests, SHAPES[shape]["vocab_size"], NUM_LENGTHS), rounds)
    return rows + against_ctranslate2(name, checkpoint, ours, requests)


def measure_atlas_decoder(num: int, rounds: int, scale: float) -> list[Row]:
    """The rows of the atlas decoder itself."""
    ours, name = Ours(DECODER), "the atlas decoder"
    write_on(ours.engine)
    requests = mixed_questions(num, scale)
    groups = alike_questions(ours.engine, requests, NUM_LENGTHS)
    one = [groups[NUM_LENGTHS // 2][0]]
    ours.run(one)
    alone_s = statistics.median(ours.run(one).total_s for _ in range(max(3, rounds)))
    return [
        Row(f"{name}: reported: one request alone: latency", alone_s, unit="s"),
        *limit(name, ours, requests, groups, rounds),
    ]


def warm_up(ours: Ours, batches: HuggingFace, requests: list[Asked]) -> None:
    short = [Asked(one.ids[:50], 4, 0.0) for one in requests[:2]]
    ours.run(short)
    batches.run(short)


def alone(model: str, ours: Ours, singly: HuggingFace, requests: list[Asked], rounds: int) -> list[Row]:
    """The request of median length, nobody else there."""
    one = [sorted(requests, key=lambda asked: len(asked.ids))[len(requests) // 2]]
    pairs = [(ours.run(one), singly.run(one)) for _ in range(max(3, rounds))]
    times = [statistics.median(run.total_s for run in runs) for runs in zip(*pairs, strict=True)]
    return [Row(f"{model}: one request alone, against Hugging Face: latency", *times, "s", 0.8, is_at_most=True)]


def at_once(
    model: str, ours: Ours, batches: HuggingFace, singly: HuggingFace, requests: list[Asked], rounds: int
) -> list[Row]:
    rows = []
    pairs = [(ours.run(requests), batches.run(requests)) for _ in range(rounds)]
    rows += compare(model, f"all at once, against static batches of {STATIC_BATCH}", pairs, 2.0, 0.5)
    span_s = POISSON_SHARE * statistics.median(mine.total_s for mine, _ in pairs)
    poisson = [(ours.run(requests, span_s), batches.run(requests, span_s)) for _ in range(rounds)]
    rows += compare(model, f"Poisson arrivals, against static batches of {STATIC_BATCH}", poisson, 2.0, 0.5)
    mine, some = pairs[0][0], slice(None, None, SINGLY_EACH)
    theirs = singly.run(requests[some])
    name = f"{model}: all at once, against one at a time: output tokens/s"
    rows.append(Row(name, mine.tokens_per_s, theirs.tokens_per_s, "/s", 3.0))
    same = [a == b for a, b in zip(mine.written[some], theirs.written, strict=True)]
    return [*rows, Row(f"{model}: answers equal to Hugging Face's, token for token", sum(same), len(same), "")]


def compare(model: str, name: str, pairs: list[tuple[Run, Run]], must: float, latency: float) -> list[Row]:
    speeds = [statistics.median(run.tokens_per_s for run in runs) for runs in zip(*pairs, strict=True)]
    waits = [statistics.median(run.mean_latency_s for run in runs) for runs in zip(*pairs, strict=True)]
    return [
        Row(f"{model}: {name}: output tokens/s", *speeds, "/s", must),
        Row(f"{model}: {name}: mean latency", *waits, "s", latency, is_at_most=True),
    ]


def limit(
    model: str, ours: Ours, requests: list[Asked | AskedOfAtlas], groups: list[list[Asked | AskedOfAtlas]], rounds: int
) -> list[Row]:
    """Mixed load against what the engine does at full batch with equal lengths.

    The requests are cut into parts of like length; for each part, as many requests as there are in all, of the
    part's mean lengths, the `groups`, are run on their own. The limit is the speed of a mixture that took no longer
    than its parts.
    """
    mixed_speeds, limits = [], []
    for _ in range(rounds):
        mixed_speeds.append(ours.run(requests).tokens_per_s)
        runs = [ours.run(group) for group in groups]
        num_tokens = sum(len(tokens) for run in runs for tokens in run.written)
        limits.append(num_tokens / sum(run.total_s for run in runs))
    speeds = statistics.median(mixed_speeds), statistics.median(limits)
    return [Row(f"{model}: mixed load, against our own with equal lengths: output tokens/s", *speeds, "/s", 0.85)]


def against_ctranslate2(model: str, checkpoint: Path, ours: Ours, requests: list[Asked]) -> list[Row]:
    try:
        theirs = CTranslate2(checkpoint, STATIC_BATCH, torch.get_num_threads())
    except Exception as error:
        print(f"CTranslate2 is left out: {error}", file=sys.stderr)
        return []
    runs = ours.run(requests), theirs.run(requests)
    name = f"reported: against CTranslate2, float32, batches of {STATIC_BATCH}: output tokens/s"
    return [Row(f"{model}: {name}", *(run.tokens_per_s for run in runs), "/s")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="fewer and shorter requests, to try it out")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="checkpoints")
    parser.add_argument("--rounds", type=int, default=1, help="medians of so many turns")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = describe()
    num, rows = max(8, round(64 * options.scale)), []
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            if part == ATLAS_DECODER:
                rows += measure_atlas_decoder(num, options.rounds, options.scale)
            else:
                rows += measure(part, num, options.rounds, options.scale, Path(folder))
            gc.collect()
    text = as_markdown("The decoding engine", rows, machine, vars(options))
    print(text)
    if options.scale == 1.0 and set(options.parts) == set(PARTS):
        RESULTS.mkdir(exist_ok=True)
        content = {"machine": machine, "settings": vars(options), "rows": [asdict(row) for row in rows]}
        (RESULTS / "engine.json").write_text(json.dumps(content, indent=1))
        (RESULTS / "engine.md").write_text(text)
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
