"""The decoding engine against Hugging Face on the same checkpoints, and against its own limit.

    python -m loadtests.bench.engine [--scale 0.1] [--parts atlas flan-t5-small] [--rounds 3]

Both sides take turns in one process with the same number of threads. Prints ratio and must of every row, writes
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

from loadtests.bench.engine_sides import CTranslate2, HuggingFace, Ours, Run
from loadtests.bench.engine_workload import SHAPES, Asked, alike, make_checkpoint, mixed
from loadtests.bench.rows import Row, as_markdown
from loadtests.machine import describe

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
    rows = alone(shape, ours, singly, requests, rounds)
    rows += at_once(shape, ours, batches, singly, requests, rounds)
    rows += limit(shape, ours, requests, rounds)
    return rows + against_ctranslate2(shape, checkpoint, ours, requests)


def warm_up(ours: Ours, batches: HuggingFace, requests: list[Asked]) -> None:
    short = [Asked(one.ids[:50], 4, 0.0) for one in requests[:2]]
    ours.run(short)
    batches.run(short)


def alone(shape: str, ours: Ours, singly: HuggingFace, requests: list[Asked], rounds: int) -> list[Row]:
    """The request of median length, nobody else there."""
    one = [sorted(requests, key=lambda asked: len(asked.ids))[len(requests) // 2]]
    pairs = [(ours.run(one), singly.run(one)) for _ in range(max(3, rounds))]
    times = [statistics.median(run.total_s for run in runs) for runs in zip(*pairs, strict=True)]
    return [Row(f"{shape}: one request alone, against Hugging Face: latency", *times, "s", 0.8, is_at_most=True)]


def at_once(
    shape: str, ours: Ours, batches: HuggingFace, singly: HuggingFace, requests: list[Asked], rounds: int
) -> list[Row]:
    rows = []
    pairs = [(ours.run(requests), batches.run(requests)) for _ in range(rounds)]
    rows += compare(shape, f"all at once, against static batches of {STATIC_BATCH}", pairs, 2.0, 0.5)
    span_s = POISSON_SHARE * statistics.median(mine.total_s for mine, _ in pairs)
    poisson = [(ours.run(requests, span_s), batches.run(requests, span_s)) for _ in range(rounds)]
    rows += compare(shape, f"Poisson arrivals, against static batches of {STATIC_BATCH}", poisson, 2.0, 0.5)
    mine, some = pairs[0][0], slice(None, None, SINGLY_EACH)
    theirs = singly.run(requests[some])
    name = f"{shape}: all at once, against one at a time: output tokens/s"
    rows.append(Row(name, mine.tokens_per_s, theirs.tokens_per_s, "/s", 3.0))
    same = [a == b for a, b in zip(mine.written[some], theirs.written, strict=True)]
    return [*rows, Row(f"{shape}: answers equal to Hugging Face's, token for token", sum(same), len(same), "")]


def compare(shape: str, name: str, pairs: list[tuple[Run, Run]], must: float, latency: float) -> list[Row]:
    speeds = [statistics.median(run.tokens_per_s for run in runs) for runs in zip(*pairs, strict=True)]
    waits = [statistics.median(run.mean_latency_s for run in runs) for runs in zip(*pairs, strict=True)]
    return [
        Row(f"{shape}: {name}: output tokens/s", *speeds, "/s", must),
        Row(f"{shape}: {name}: mean latency", *waits, "s", latency, is_at_most=True),
    ]


def limit(shape: str, ours: Ours, requests: list[Asked], rounds: int) -> list[Row]:
    """Mixed load against what the engine does at full batch with equal lengths.

    The requests are cut into parts of like length; for each part, as many requests as there are in all, of the
    part's mean lengths, are run on their own. The limit is the speed of a mixture that took no longer than its parts.
    """
    groups = alike(requests, SHAPES[shape]["vocab_size"], NUM_LENGTHS)
    mixed_speeds, limits = [], []
    for _ in range(rounds):
        mixed_speeds.append(ours.run(requests).tokens_per_s)
        runs = [ours.run(group) for group in groups]
        num_tokens = sum(len(tokens) for run in runs for tokens in run.written)
        limits.append(num_tokens / sum(run.total_s for run in runs))
    speeds = statistics.median(mixed_speeds), statistics.median(limits)
    return [Row(f"{shape}: mixed load, against our own with equal lengths: output tokens/s", *speeds, "/s", 0.85)]


def against_ctranslate2(shape: str, checkpoint: Path, ours: Ours, requests: list[Asked]) -> list[Row]:
    try:
        theirs = CTranslate2(checkpoint, STATIC_BATCH, torch.get_num_threads())
    except Exception as error:
        print(f"CTranslate2 is left out: {error}", file=sys.stderr)
        return []
    runs = ours.run(requests), theirs.run(requests)
    name = f"reported: against CTranslate2, float32, batches of {STATIC_BATCH}: output tokens/s"
    return [Row(f"{shape}: {name}", *(run.tokens_per_s for run in runs), "/s")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="fewer and shorter requests, to try it out")
    parser.add_argument("--parts", nargs="+", choices=SHAPES, default=list(SHAPES), help="checkpoints")
    parser.add_argument("--rounds", type=int, default=1, help="medians of so many turns")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    num, rows = max(8, round(64 * options.scale)), []
    with tempfile.TemporaryDirectory() as folder:
        for shape in options.parts:
            rows += measure(shape, num, options.rounds, options.scale, Path(folder))
            gc.collect()
    machine = describe()
    text = as_markdown("The decoding engine", rows, machine, vars(options))
    print(text)
    if options.scale == 1.0 and set(options.parts) == set(SHAPES):
        RESULTS.mkdir(exist_ok=True)
        content = {"machine": machine, "settings": vars(options), "rows": [asdict(row) for row in rows]}
        (RESULTS / "engine.json").write_text(json.dumps(content, indent=1))
        (RESULTS / "engine.md").write_text(text)
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
