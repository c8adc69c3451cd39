"""The models without any server: what a server is measured against. Runs in processes of its own, one job a line.

python -m loadtests.bench.compare_bare reads {"do": …} from stdin and answers with a line of JSON.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONFIG = Path("serve_config.yaml")
JOB_TIMEOUT_S = 180
BATCHES = {"ours": (256, 1024, 4096), "sentence-transformers": (8, 32, 128)}
"""The batches tried: tokens for our session, texts for sentence-transformers; both sort by length."""


class Bare:
    """Processes that compute for as long as they are told to."""

    def __init__(self, num: int = 1, python: str = sys.executable, num_threads: int | None = None):
        command = [python, "-m", "loadtests.bench.compare_bare"]
        environment = {"OMP_NUM_THREADS": str(num_threads)} if num_threads else {}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
        settings = os.environ | {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"} | environment
        self._processes = [subprocess.Popen(command, env=settings, **pipes) for _ in range(num)]

    def do(self, **job: Any) -> list[dict[str, Any]]:
        """What each process answers; they work at the same time."""
        try:
            for process in self._processes:
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
        except OSError as error:
            raise RuntimeError(f"the bare model has ended before it did {job['do']}: see above") from error
        patience = threading.Timer(JOB_TIMEOUT_S, self._kill)
        patience.start()
        lines = [process.stdout.readline() for process in self._processes]
        patience.cancel()
        if not all(lines):
            raise RuntimeError(f"the bare model ended, or took over {JOB_TIMEOUT_S} s, at {job['do']}: see above")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            for process in self._processes:
                process.wait(10)
        except subprocess.TimeoutExpired:
            self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()


def embed_texts(texts: list[str], side: str, batch: int, num_threads: int | None, span_s: float) -> dict[str, float]:
    """All texts again and again: texts a second, and processor seconds for each."""
    embed = _text_model(side, batch, num_threads)
    embed(texts[:batch])
    return _repeated(lambda: embed(texts), len(texts), span_s)


def embed_images(files: list[str], span_s: float) -> dict[str, float]:
    """Decoded and embedded, 32 at a time."""
    embed = _image_model()
    embed(files[:32])
    return _repeated(lambda: embed(files[:32]), 32, span_s)


def answer_alone(questions: list[str], span_s: float) -> dict[str, list[float]]:
    """The whole pipeline in this process for one caller after another: milliseconds of each answer."""
    return _loop().run(_answers(questions, span_s))


def run_models(questions: list[str], num_callers: int, span_s: float) -> dict[str, float]:
    """Only the models of whole answers, everything else done beforehand, for so many callers at a time."""
    return _loop().run(_models(questions, num_callers, span_s))


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "texts": embed_texts, "images": embed_images, "alone": answer_alone, "models": run_models
}  # fmt: skip


def _repeated(work: Callable[[], Any], num: int, span_s: float) -> dict[str, float]:
    started_s, used_s, rounds = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started_s < span_s:
        work()
        rounds += 1
    elapsed_s, used_s = time.perf_counter() - started_s, time.process_time() - used_s
    return {"per_s": rounds * num / elapsed_s, "cpu_s": used_s / (rounds * num)}


@functools.cache
def _text_model(side: str, batch: int, num_threads: int | None) -> Callable[[list[str]], Any]:
    if num_threads:
        import torch

        torch.set_num_threads(num_threads)
    if side == "ours":
        from mmrag.config import TextEncoderConfig
        from mmrag.encoders.text import TextEncoder

        return TextEncoder(TextEncoderConfig(max_batch_tokens=batch, num_threads=num_threads)).encode
    from loadtests.bench.peers.models import sentence_transformer

    return sentence_transformer(batch)


@functools.cache
def _image_model() -> Callable[[list[str]], Any]:
    from loadtests.bench.peers.models import image_model

    return image_model()


@functools.cache
def _loop() -> asyncio.Runner:
    """One for all jobs, as the parts of the system stay in theirs."""
    return asyncio.Runner()


@functools.cache
def _local():
    from mmrag.config_file import read_config
    from mmrag.local import Local

    return Local(read_config(CONFIG))


async def _answers(questions: list[str], span_s: float) -> dict[str, list[float]]:
    from mmrag.types import Query

    pipeline, latencies_ms = _local().pipeline_with(), []
    for question in questions[:5]:
        await pipeline.answer(Query(text=question))
    ends_s = time.perf_counter() + span_s
    for question in questions[5:]:
        started_s = time.perf_counter()
        await pipeline.answer(Query(text=question))
        latencies_ms.append(1000 * (time.perf_counter() - started_s))
        if time.perf_counter() > ends_s:
            break
    return {"latencies_ms": latencies_ms}


async def _models(questions: list[str], num_callers: int, span_s: float) -> dict[str, float]:
    from mmrag.types import DecodeRequest, SearchRequest

    local = _local()
    embeddings = await local.text_encoder.embed(questions)
    searches = [SearchRequest(text, embedding) for text, embedding in zip(questions, embeddings, strict=True)]
    found = await local.knowledge.search(searches)
    pairs = zip(searches, found, strict=True)
    ready = [DecodeRequest(one.text, one.text_embedding, None, None, list(passages)) for one, passages in pairs]
    requests, num_done = itertools.cycle(ready), 0
    started_s, used_s = time.perf_counter(), time.process_time()

    async def caller() -> None:
        nonlocal num_done
        while time.perf_counter() - started_s < span_s:
            request = next(requests)
            await local.text_encoder.embed([request.text])
            await local.decoder.decode([request])
            num_done += 1

    await asyncio.gather(*(caller() for _ in range(num_callers)))
    elapsed_s = time.perf_counter() - started_s
    return {"per_s": num_done / elapsed_s, "cpu_s": (time.process_time() - used_s) / num_done}


def main() -> None:
    """Do as stdin says until it ends."""
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            job = json.loads(line)
            found = JOBS[job.pop("do")](**job)
            answers.write(json.dumps(found) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
