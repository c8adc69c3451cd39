"""The decoding engine as an awaitable part: prepared in one thread, stepped in another."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmrag.batching import together
from mmrag.components.threads import Threads, use_one_core, use_threads
from mmrag.config import DecoderConfig
from mmrag.errors import ConfigurationError, MmragError
from mmrag.types import Decoded, DecodeRequest

if TYPE_CHECKING:
    from mmrag.decoder.engine import Engine
    from mmrag.decoder.group import Group
    from mmrag.decoder.job import Job
    from mmrag.decoder.settings import DecoderModelConfig

log = logging.getLogger(__name__)

PIECE_INTERVAL_S = 0.02
"""A reader cannot tell pieces apart that follow each other more closely; each is a message through every hop."""


class AnswerDecoder:
    """`decode` and `stream` for many callers at once over one decoding engine, which reads the first passages only."""

    def __init__(self, config: DecoderConfig, group: "Group | None" = None):
        from mmrag.decoder.engine import Engine

        use_threads(config.num_threads)
        self.engine = Engine.load(config, group)
        self._read_question = question_reader(self.engine.inputs.config)
        self._max_passages = config.max_passages
        self._preparing = Threads("fusion-decoder-inputs", on_start=use_one_core)
        self._num_preparing = 0
        self._loop = EngineLoop(self.engine)

    async def decode(self, requests: list[DecodeRequest]) -> list[Decoded]:
        """The answer to each request. Raises Overloaded when too much waits."""
        return await together(self._decode(request) for request in requests)

    async def stream(self, request: DecodeRequest) -> AsyncIterator[str | Decoded]:
        """Pieces of the answer as they are written, several tokens to a piece when they come fast, then the whole."""
        changed = asyncio.Event()
        job = await self._submit(request, changed, wants_pieces=True)
        try:
            while not job.is_done:
                await changed.wait()
                changed.clear()
                if piece := job.piece():
                    yield piece
                    await _pause(job, changed)
            if piece := job.piece():
                yield piece
        finally:
            self.engine.cancel(job)
        yield await self._with_each_left_out(job)

    def stats(self) -> dict[str, float]:
        """How the engine is doing, see `mmrag.decoder.stats.Stats.as_dict`."""
        return self.engine.stats.as_dict(self.engine.scheduler)

    async def _decode(self, request: DecodeRequest) -> Decoded:
        done = asyncio.Event()
        job = await self._submit(request, done)
        try:
            await done.wait()
        finally:
            self.engine.cancel(job)
        return await self._with_each_left_out(job)

    async def _with_each_left_out(self, job: "Job") -> Decoded:
        """The answer; with `explain: "loo"` also what it is without each passage: one after the other, so that one
        request is one sequence at a time, as everybody's is.

        Where that is refused, fails or takes more than half of the time left, the answer is all there is: it may have
        been streamed already.
        """
        answer, request = _answer(job), job.request
        if request.explain == "loo" and answer.attribution is not None:
            deadline_s = request.deadline_s and (time.time() + request.deadline_s) / 2
            one_less = replace(request, explain=False, deadline_s=deadline_s)
            without = {}
            try:
                for k, passage in enumerate(request.passages):
                    others = request.passages[:k] + request.passages[k + 1 :]
                    [other] = await self.decode([replace(one_less, passages=others)])
                    without[passage.id] = other.text
            except MmragError as error:
                log.warning("an answer goes without what it would be without each passage: %s", error)
                return answer
            answer.attribution.without = without
        return answer

    async def _submit(self, request: DecodeRequest, changed: asyncio.Event, wants_pieces: bool = False) -> "Job":
        loop = asyncio.get_running_loop()

        def prepare(one: DecodeRequest) -> "Job":
            if one.text and self._read_question is not None:
                one = replace(one, question_states=self._read_question(one.text))
            return self.engine.prepare(one, lambda: loop.call_soon_threadsafe(changed.set), wants_pieces)

        self.engine.check_room(self._num_preparing)
        self._num_preparing += 1
        try:
            # Tokenizing and reading the question takes milliseconds: neither in the event loop nor between two steps.
            job = await self._preparing.run(prepare, replace(request, passages=request.passages[: self._max_passages]))
        finally:
            self._num_preparing -= 1
        self._loop.start()
        return self.engine.submit(job)


class EngineLoop:
    """Steps an engine in a thread of its own while there is work."""

    def __init__(self, engine: "Engine"):
        self._engine = engine
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless it has begun already."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fusion-decoder", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._engine.wait_for_work()
            try:
                while self._engine.step():
                    pass
            except Exception:
                log.exception("a step of the fusion decoder failed")


def question_reader(config: "DecoderModelConfig") -> Callable[[str], np.ndarray] | None:
    """What reads questions for a decoder of this `config`; None where their embedding is all it wants.

    Raises ConfigurationError where the model it was trained with is not to be had, or is another.
    """
    if config.question_model is None:
        return None
    from mmrag.encoders.question import QuestionReader

    reader = QuestionReader(config.question_model, config.question_layers)
    if reader.dimension != config.question_dimension:
        raise ConfigurationError(
            f"the decoder reads questions from {config.question_dimension} numbers; its question model "
            f"{config.question_model} gives {reader.dimension}: use the one it was trained with"
        )
    return reader.read


def _answer(job: "Job") -> Decoded:
    if job.error is not None:
        raise job.error
    return job.decoded


async def _pause(job: "Job", changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(PIECE_INTERVAL_S):
            while not job.is_done:
                await changed.wait()
                changed.clear()
    except TimeoutError:
        changed.set()  # there may be more to send by now
