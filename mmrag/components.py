"""Each model with a queue in front of it and a thread beneath it: the awaitable parts of a pipeline.

The same classes serve in one process (the command line, an evaluation) and inside the replicas of a cluster.
Threads keep the event loop free: inputs are prepared in one while the model computes in others.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mmrag.batching import Batcher, together
from mmrag.config import DecoderConfig, ImageEncoderConfig, TextEncoderConfig
from mmrag.cores import num_cores
from mmrag.encoders.fingerprint import image_fingerprint, text_fingerprint
from mmrag.types import Decoded, DecodeRequest, ImageEmbeddings

if TYPE_CHECKING:
    from mmrag.decoder.engine import Engine, Job
    from mmrag.decoder.group import Group

log = logging.getLogger(__name__)

A = TypeVar("A")
B = TypeVar("B")

PIECE_INTERVAL_S = 0.02
"""A reader cannot tell pieces apart that follow each other more closely; each is a message through every hop."""


class _Threads:
    """Run work outside the event loop, as many pieces at a time as there are threads."""

    def __init__(self, name: str, count: int = 1, on_start: Callable[[], None] = lambda: None):
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=on_start)

    async def run(self, work: Callable[[A], B], argument: A) -> B:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, argument)


class TextEmbedder:
    """`embed` for many callers at once over one TextEncoder.

    On a CPU there is a thread for each core, and each computes batches of its own, of texts alike in length: that
    costs less than all cores at one batch, which wait for each other after every product.
    """

    def __init__(self, config: TextEncoderConfig):
        from mmrag.encoders.text import TextEncoder

        self.encoder = TextEncoder(config)
        self.fingerprint = text_fingerprint(config)
        self._tokenizing = _Threads("tokenizer")
        num_workers, on_start = _workers(config)
        self._encoding = _Threads("text-encoder", num_workers, on_start)
        self._batcher: Batcher[list[int], np.ndarray] = Batcher(
            self._encode,
            max_batch_cost=self.encoder.max_batch_tokens,
            max_queue_cost=config.max_queued_texts * config.max_tokens,
            max_concurrent_batches=num_workers,
            cost=len,
            sorts_by_cost=True,
            name="text encoder",
        )

    async def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dimension], L2-normalised. Raises Overloaded when too much waits."""
        if not texts:
            return np.empty((0, self.encoder.dimension), np.float32)
        token_ids = await self._tokenizing.run(self.encoder.tokenize, texts)
        return np.stack(await together(self._batcher.submit(ids) for ids in token_ids))

    async def _encode(self, token_ids: list[list[int]]) -> Sequence[np.ndarray]:
        return list(await self._encoding.run(self.encoder.encode_tokens, token_ids))


class ImageEmbedder:
    """`embed` for many callers at once over one ImageEncoder."""

    def __init__(self, config: ImageEncoderConfig):
        from mmrag.encoders.image import ImageEncoder

        self.encoder = ImageEncoder.load(config.model, config.device)
        self.encoder.accelerate(config.precision)
        self.fingerprint = image_fingerprint(config)
        self._preparing = _Threads("image-preparation")
        num_workers, on_start = _workers(config)
        self._encoding = _Threads("image-encoder", num_workers, on_start)
        self._batcher: Batcher[np.ndarray, tuple[np.ndarray, np.ndarray]] = Batcher(
            self._encode,
            max_batch_cost=config.max_batch,
            max_queue_cost=config.max_queued_images,
            max_concurrent_batches=num_workers,
            sorts_by_cost=True,
            name="image encoder",
        )

    async def embed(self, images: list[np.ndarray]) -> ImageEmbeddings:
        """Embeddings and grids of n decoded images. Raises Overloaded when too much waits."""
        if not images:
            return self.encoder.encode([])
        squares = await self._preparing.run(self.encoder.prepare, images)
        embeddings, grids = zip(*await together(self._batcher.submit(square) for square in squares), strict=True)
        return ImageEmbeddings(np.stack(embeddings), np.stack(grids))

    async def _encode(self, squares: list[np.ndarray]) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        found = await self._encoding.run(self.encoder.encode_squares, squares)
        return list(zip(found.embeddings, found.grids, strict=True))


class AnswerDecoder:
    """`decode` and `stream` for many callers at once over one decoding engine, which reads the first passages only."""

    def __init__(self, config: DecoderConfig, group: "Group | None" = None):
        from mmrag.decoder.engine import Engine

        _use_threads(config.num_threads)
        self.engine = Engine.load(config, group)
        self._max_passages = config.max_passages
        self._preparing = _Threads("fusion-decoder-inputs")
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

    def stats(self) -> dict[str, Any]:
        """How the engine is doing: see `mmrag.decoder.stats.Stats`."""
        return self.engine.stats.as_dict()

    async def _decode(self, request: DecodeRequest) -> Decoded:
        done = asyncio.Event()
        job = await self._submit(request, done)
        try:
            await done.wait()
        finally:
            self.engine.cancel(job)
        return await self._with_each_left_out(job)

    async def _with_each_left_out(self, job: "Job") -> Decoded:
        """The answer; with `explain: "loo"` also what it is without each passage, all decoded together."""
        answer, request = _answer(job), job.request
        if request.explain == "loo" and answer.attribution is not None:
            left = [request.passages[:k] + request.passages[k + 1 :] for k in range(len(request.passages))]
            others = await self.decode([replace(request, passages=passages, explain=False) for passages in left])
            pairs = zip(request.passages, others, strict=True)
            answer.attribution.without = {passage.id: other.text for passage, other in pairs}
        return answer

    async def _submit(self, request: DecodeRequest, changed: asyncio.Event, wants_pieces: bool = False) -> "Job":
        loop = asyncio.get_running_loop()

        def prepare(one: DecodeRequest) -> "Job":
            return self.engine.prepare(one, lambda: loop.call_soon_threadsafe(changed.set), wants_pieces)

        self.engine.check_room(self._num_preparing)
        self._num_preparing += 1
        try:
            # Tokenizing takes milliseconds: neither in the event loop nor between two steps.
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


def _workers(config: TextEncoderConfig | ImageEncoderConfig) -> tuple[int, Callable[[], None]]:
    """How many threads compute at a time, and what each does first."""
    if not config.device.startswith("cpu"):
        return 1, lambda: None
    return config.num_threads or num_cores(), _use_one_core


_STARTING = threading.Lock()


def _use_one_core() -> None:
    """Products in the calling thread use one core; those of other threads use as many as before."""
    import torch

    with _STARTING:
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # for this thread, and for those that have not computed anything yet
        restore = threading.Thread(target=torch.set_num_threads, args=[before])
        restore.start()
        restore.join()


def _use_threads(num_threads: int | None) -> None:
    if num_threads:
        import torch

        torch.set_num_threads(num_threads)
