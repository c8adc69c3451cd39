"""The decoding engine: every step the scheduler decides, the worker computes, and the results are handed out.

An answer does not depend on its company. On a CPU in float32 its scores are the same to the last bit whatever else
is read or written (`tests/decoder/test_engine.py`): sources are read without padding, each step and reading has a
multiple of four rows, attention sees a multiple of sixteen keys, and nothing is summed across requests. Between
machines, numbers of threads or ranks, and on a GPU, sums round differently: a near tie may be decided otherwise.

`prepare`, `submit` and `cancel` may be called from other threads than the one that calls `step`.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from tokenizers import Tokenizer

from mmrag.config import DecoderConfig
from mmrag.decoder.attribution import attribute
from mmrag.decoder.cache_size import CacheSize
from mmrag.decoder.checkpoint import find_checkpoint
from mmrag.decoder.group import Group
from mmrag.decoder.inputs import InputBuilder
from mmrag.decoder.job import Job
from mmrag.decoder.plan import Admission, Choice, Plan, Result, Runs, Scoring
from mmrag.decoder.ranks import Leader
from mmrag.decoder.scheduler import Decision, EngineLimits, Scheduler, Sequence
from mmrag.decoder.sequence_output import SequenceOutput, label_targets, labelled
from mmrag.decoder.stats import Stats
from mmrag.decoder.tokens import load_tokenizer
from mmrag.decoder.whole_words import WholeWords, whole_words
from mmrag.decoder.worker import Worker
from mmrag.errors import DeadlineExceeded, InvalidRequest, MmragError, Unavailable
from mmrag.types import Decoded, DecodeRequest

log = logging.getLogger(__name__)


class Engine:
    """Answers many requests at a time over one worker."""

    def __init__(
        self, worker: Runs, inputs: InputBuilder, limits: EngineLimits = EngineLimits(), max_new_tokens: int = 256,
        cache_size: CacheSize | None = None,
    ):  # fmt: skip
        """`cache_size`: what sequences take of the worker's memory; None: as those of one rank in float32 on a CPU."""
        self.cache_size = cache_size or CacheSize(inputs.config)
        self.worker, self.inputs, self.max_new_tokens = worker, inputs, max_new_tokens
        self.max_source_tokens: int | None = None
        self.scheduler = Scheduler(limits)
        self.stats = Stats()
        self.work_arrived = threading.Condition()
        self._jobs: dict[Sequence, Job] = {}
        self._last_ids: dict[Sequence, int] = {}

    @classmethod
    def load(cls, config: DecoderConfig, group: Group | None = None) -> "Engine":
        """An engine over the configured checkpoint, in this process or, with a `group`, leading its ranks.

        The other ranks do `ranks.follow(Worker.load(config, group), group)`. Raises ConfigurationError.
        """
        worker = Worker.load(config, group)
        tokenizer = load_tokenizer(find_checkpoint(config.model))
        inputs = InputBuilder(tokenizer, worker.model.config, config.max_passage_tokens)
        limits = EngineLimits(
            max_rows=worker.max_rows,
            max_waiting=config.max_queued_requests,
            memory_bytes=config.memory_bytes - worker.table_bytes,
            prefill_tokens=config.prefill_tokens,
        )
        runs = worker if group is None else Leader(worker, group)
        engine = cls(runs, inputs, limits, config.max_new_tokens, worker.cache_size)
        engine.max_source_tokens = config.max_passages * config.max_passage_tokens
        return engine

    @property
    def tokenizer(self) -> Tokenizer:
        return self.inputs.tokenizer

    def prepare(
        self, request: DecodeRequest, on_change: Callable[[], None] = lambda: None, wants_pieces: bool = False
    ) -> Job:
        """Tokenize a request, which takes milliseconds; in any thread, one at a time.

        Raises:
            InvalidRequest: it can never be answered: too long, or labels asked of a model that has none.
            ConfigurationError: its embeddings are not those the model was trained with.
        """
        if not 1 <= request.max_new_tokens <= self.max_new_tokens:
            raise InvalidRequest(f"max_new_tokens must be from 1 to {self.max_new_tokens}", "max_new_tokens")
        config, is_choice = self.inputs.config, request.task == "classify"
        if is_choice and not request.labels and not config.labels:
            raise InvalidRequest("this model was trained on no labels: name the labels to choose among", "labels")
        self.inputs.prompts.check_question(request)
        evidence = self.inputs.build_alone(request)
        [prompts], evidence.prompts = evidence.prompts, []  # the worker has no use for them
        sampling = request.sampling
        if sampling.seed is None:
            sampling = replace(sampling, seed=random.getrandbits(63))
        encodings = [e for prompt in prompts for e in (prompt.title, prompt.text) if e is not None]
        words = whole_words(encodings, config.start_id) if config.pointer else WholeWords()
        admission = Admission(evidence, sampling, words, bool(request.explain), is_choice and not request.labels)
        num_image = evidence.text_embeddings.shape[1] + evidence.image_embeddings.shape[1] + evidence.grid.shape[1]
        num_source = evidence.source_ids.shape[1]
        if self.max_source_tokens is not None and num_source > self.max_source_tokens:
            raise InvalidRequest(f"the text has {num_source} tokens; at most {self.max_source_tokens} are read", "text")
        num_bytes = self.cache_size.sequence_bytes(num_source, num_image)
        sequence = Sequence(num_source, num_bytes, request.deadline_s)
        output = SequenceOutput(self.tokenizer, config.end_id, request.max_new_tokens, list(sampling.stop))
        targets = label_targets(self.tokenizer, config.end_id, request.labels) if is_choice else []
        return Job(request, sequence, admission, prompts, output, on_change, wants_pieces, targets)

    def submit(self, job: Job) -> Job:
        """Queue a job. Raises Overloaded when too many wait, InvalidRequest when there is no room for it ever."""
        with self.work_arrived:
            self.scheduler.submit(job.sequence, self.stats.seconds_for(len(self.scheduler.waiting)))
            self._jobs[job.sequence] = job
            self.work_arrived.notify()
        return job

    def check_room(self, num_more: int = 0) -> None:
        """Raises Overloaded when it would be in vain to prepare a request, with `num_more` on their way."""
        self.scheduler.check_room(self.stats.seconds_for(len(self.scheduler.waiting)), num_more)

    def wait_for_work(self) -> None:
        """Sleep until there is something to do."""
        with self.work_arrived:
            self.work_arrived.wait_for(lambda: not self.scheduler.is_idle)

    def cancel(self, job: Job) -> None:
        """Nobody waits for it any more: it leaves at the next step. Harmless when it is done."""
        with self.work_arrived:
            if job.sequence in self._jobs:
                self._forget(job)
                self.stats.num_cancelled += 1
                self.work_arrived.notify()

    def step(self) -> bool:
        """Do one step; whether there is more to do.

        Raises what went wrong, after every request in flight has been given it as Unavailable.
        """
        try:
            return self._step()
        except Exception as error:
            self._fail(error)
            raise

    def _step(self) -> bool:
        with self.work_arrived:
            self._expire()
            decision = self.scheduler.decide()
            running = list(self.scheduler.running)
            plan, scored = self._plan(decision, running)
        result = self.worker.run(plan)
        with self.work_arrived:
            self._hand_out(result, running, scored)
            self.stats.took_step(len(running), self.scheduler)
            return not self.scheduler.is_idle

    def _plan(self, decision: Decision, running: list[Sequence]) -> tuple[Plan, Job | None]:
        start_id = self.inputs.config.start_id
        jobs = [self._jobs[sequence] for sequence in decision.join]
        for job in jobs:
            job.read_s = time.perf_counter()
        last_ids = [self._last_ids.get(sequence, start_id) for sequence in running]
        # Those who came first, whatever their rows: newcomers move into rows before theirs.
        scored = next((job for job in self._jobs.values() if job.targets and job.sequence in running), None)
        scoring = None
        if scored is not None:
            scoring = Scoring(running.index(scored.sequence), scored.next_targets())
        admissions = [job.admission for job in jobs]
        return Plan(decision.leave, last_ids, admissions, decision.abandon, decision.prefill_tokens, scoring), scored

    def _hand_out(self, result: Result, running: list[Sequence], scored: Job | None) -> None:
        if result.have_joined:
            self.scheduler.joined()
        if scored is not None:
            scored.scores += result.scores
        for sequence, choice in zip(running, result.choices, strict=True):
            if job := self._jobs.get(sequence):
                self._last_ids[sequence] = choice.token
                try:
                    self._go_on(job, choice)
                except Exception as error:
                    log.exception("a request to the fusion decoder failed, and no other")
                    self._give_up(job, error)

    def _go_on(self, job: Job, choice: Choice) -> None:
        if job.request.task == "classify":
            self._choose(job, choice.label_probabilities)
        else:
            self._write(job, choice)

    def _write(self, job: Job, choice: Choice) -> None:
        self.stats.num_tokens += 1
        if not job.num_written:
            job.first_token_s = time.perf_counter()
        job.num_written += 1
        if job.output.add(choice.token) and choice.trace is not None:
            job.traces.append(choice.trace)
        if job.output.finish_reason:
            self._finish(job, self._answer(job))
        elif job.wants_pieces:
            job.on_change()

    def _answer(self, job: Job) -> Decoded:
        output, explained = job.output, None
        if job.request.explain:
            tokens = output.shown_tokens
            explained = attribute(tokens, job.traces[: len(tokens)], job.request, job.prompts, self.tokenizer)
        return Decoded(output.text, None, explained, len(output.tokens), output.finish_reason)

    def _choose(self, job: Job, trained: list[float] | None) -> None:
        if trained is not None:
            self._finish(job, labelled(self.inputs.config.labels, trained))
        elif job.targets and len(job.scores) == len(job.targets):
            self._finish(job, labelled(job.request.labels, job.scores, are_logarithms=True))

    def _finish(self, job: Job, answer: Decoded) -> None:
        self._forget(job)
        job.first_token_s = job.first_token_s or time.perf_counter()
        answer.timings_ms = self.stats.finished(job)
        job.decoded = answer
        job.on_change()

    def _expire(self) -> None:
        for sequence in self.scheduler.expired(time.time()):
            self.stats.num_expired += 1
            self._give_up(self._jobs[sequence], DeadlineExceeded("time was over before the answer was written"))

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.sequence, None)
        self._last_ids.pop(job.sequence, None)
        self.scheduler.drop(job.sequence)

    def _give_up(self, job: Job, error: Exception) -> None:
        self._forget(job)
        job.error = error if isinstance(error, MmragError) else Unavailable(f"the decoder failed: {error}")
        try:
            job.on_change()
        except Exception:
            log.exception("whoever waits for an answer of the fusion decoder could not be told that there is none")

    def _fail(self, error: Exception) -> None:
        with self.work_arrived:
            for job in list(self._jobs.values()):
                self._give_up(job, error)
            self.scheduler.clear()
            self.worker.reset()
