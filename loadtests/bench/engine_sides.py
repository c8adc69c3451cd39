"""Who answers the requests of the engine's benchmark: our engine, Hugging Face, CTranslate2 where it is installed."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import T5ForConditionalGeneration

from loadtests.bench.engine_workload import Asked
from mmrag.config import DecoderConfig
from mmrag.decoder.engine import Engine
from mmrag.decoder.job import Job

CONVERSION_TIMEOUT_S = 300


@dataclass
class Run:
    """One pass over the requests: seconds in all, each request's latency from its arrival, and what was written."""

    total_s: float
    latencies_s: list[float]
    written: list[list[int]] = field(repr=False)

    @property
    def tokens_per_s(self) -> float:
        return sum(map(len, self.written)) / self.total_s

    @property
    def mean_latency_s(self) -> float:
        return sum(self.latencies_s) / len(self.latencies_s)


class Ours:
    """The engine as the service runs it, stepped in this thread."""

    def __init__(self, checkpoint: Path, num_rows: int = 64, memory_bytes: int = 8 * 2**30):
        config = DecoderConfig(model=str(checkpoint), max_batch=num_rows, max_new_tokens=128, memory_bytes=memory_bytes)
        self._config = config
        self.engine: Engine = Engine.load(config)

    def run(self, requests: list[Asked], span_s: float = 0.0) -> Run:
        """Requests arrive over `span_s` seconds, or all at once."""
        prepared = [self.engine.prepare(one.as_request()) for one in requests]
        jobs: list[Job] = []
        ended_s: dict[Job, float] = {}
        started_s = time.perf_counter()
        while len(ended_s) < len(requests):
            now_s = time.perf_counter() - started_s
            while len(jobs) < len(requests) and requests[len(jobs)].arrival * span_s <= now_s:
                jobs.append(self.engine.submit(prepared[len(jobs)]))
            if self.engine.scheduler.is_idle:
                time.sleep(max(0.0, requests[len(jobs)].arrival * span_s - now_s))
                continue
            self.engine.step()
            now_s = time.perf_counter() - started_s
            ended_s |= {job: now_s for job in jobs if job.is_done and job not in ended_s}
        latencies = [ended_s[job] - one.arrival * span_s for job, one in zip(jobs, requests, strict=True)]
        return Run(max(ended_s.values()), latencies, [job.output.tokens for job in jobs])


class HuggingFace:
    """`generate` over batches in arrival order: whoever has arrived when the model is free, `batch` at most."""

    def __init__(self, checkpoint: Path, batch: int):
        self._model = T5ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self._model.generation_config.eos_token_id = None
        self._batch = batch

    def run(self, requests: list[Asked], span_s: float = 0.0) -> Run:
        """Arrivals are counted on a clock that stands still while nobody is there."""
        now_s, latencies, written, waiting = 0.0, [], [], list(requests)
        while waiting:
            now_s = max(now_s, waiting[0].arrival * span_s)
            group = [one for one in waiting if one.arrival * span_s <= now_s][: self._batch]
            del waiting[: len(group)]
            started_s = time.perf_counter()
            written += self.generate(group)
            now_s += time.perf_counter() - started_s
            latencies += [now_s - one.arrival * span_s for one in group]
        return Run(now_s, latencies, written)

    def generate(self, group: list[Asked]) -> list[list[int]]:
        longest = max(len(one.ids) for one in group)
        ids = torch.tensor([one.ids + [0] * (longest - len(one.ids)) for one in group])
        mask = torch.tensor([[1] * len(one.ids) + [0] * (longest - len(one.ids)) for one in group])
        num = max(one.num_new_tokens for one in group)
        with torch.inference_mode():
            written = self._model.generate(ids, attention_mask=mask, max_new_tokens=num, do_sample=False, num_beams=1)
        return [row[1 : 1 + one.num_new_tokens].tolist() for row, one in zip(written, group, strict=True)]


class CTranslate2:
    """Its own static batches in float32. Raises ImportError where it is not installed."""

    def __init__(self, checkpoint: Path, batch: int, num_threads: int):
        import ctranslate2

        self._batch, out = batch, checkpoint / "ctranslate2"
        if not out.is_dir():
            converter = Path(sys.executable).parent / "ct2-transformers-converter"
            command = [str(converter), "--model", str(checkpoint), "--output_dir", str(out)]
            environment = os.environ | {"HF_HUB_OFFLINE": "1"}  # everything it needs lies there
            subprocess.run(command, check=True, capture_output=True, timeout=CONVERSION_TIMEOUT_S, env=environment)
        self._translator = ctranslate2.Translator(str(out), compute_type="float32", intra_threads=num_threads)

    def run(self, requests: list[Asked], span_s: float = 0.0) -> Run:
        """All at once only."""
        started_s, latencies, written = time.perf_counter(), [], []
        for first in range(0, len(requests), self._batch):
            group = requests[first : first + self._batch]
            tokens = [[f"w{token}" for token in one.ids[:-1]] + ["</s>"] for one in group]
            num = max(one.num_new_tokens for one in group)
            found = self._translator.translate_batch(tokens, beam_size=1, max_decoding_length=num, max_input_length=0)
            pairs = zip(found, group, strict=True)
            written += [[int(word[1:]) for word in one.hypotheses[0]][: asked.num_new_tokens] for one, asked in pairs]
            latencies += [time.perf_counter() - started_s] * len(group)
        return Run(time.perf_counter() - started_s, latencies, written)
