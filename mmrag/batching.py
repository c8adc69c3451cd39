"""A work-conserving batcher: whenever the model is free it takes what waits, and never waits for more.

Ray Serve's `@serve.batch` freezes a batch before the model is free; under load that leaves most of the batch
empty. Here the batch is cut at the moment a slot opens, so batches grow exactly as fast as the load does, and
a lone request starts at once.
"""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mmrag.errors import DeadlineExceeded, Overloaded

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[T, R]):
    item: T
    cost: float
    deadline_s: float | None
    future: asyncio.Future[R]


class Batcher(Generic[T, R]):
    """Collects items that callers submit and runs them in batches.

    Args:
        run: takes the items of a batch and returns one result for each, in order; an exception in place of a
            result goes to that item's caller alone, a raised one to all of them.
        max_batch_cost: sum of costs that one batch may hold (an item dearer than that runs alone).
        max_queue_cost: sum of costs that may wait, beyond which `submit` raises Overloaded; an empty queue takes all.
        max_concurrent_batches: batches in flight at a time; a function where it changes, as replicas do.
        cost: cost of an item in the unit that the model's time grows with (tokens, pixels, items).
        sorts_by_cost: for models that fill short items up to the length of the longest, with a worker for each batch
            in flight. What waits is sorted and cut into batches of items alike, one for each idle worker at least; a
            batch may hold `max_batch_cost` after filling up. Next is always the one with the item that waits longest.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Awaitable[Sequence[R | Exception]]],
        *,
        max_batch_cost: float,
        max_queue_cost: float,
        max_concurrent_batches: int | Callable[[], int] = 1,
        cost: Callable[[T], float] = lambda item: 1,
        sorts_by_cost: bool = False,
        name: str = "model",
    ):
        self._run = run
        self._max_batch_cost = max_batch_cost
        self._max_queue_cost = max_queue_cost
        self._max_concurrent_batches = max_concurrent_batches
        self._cost = cost
        self._take = self._take_alike if sorts_by_cost else self._take_oldest
        self._name = name
        self._queue: deque[_Waiting[T, R]] = deque()
        self._queued_cost = 0.0
        self._seconds_per_cost = 0.0
        self._tasks: set[asyncio.Task] = set()
        self._num_running = 0
        self._is_start_due = False

    @property
    def num_waiting(self) -> int:
        """Items in the queue."""
        return len(self._queue)

    async def submit(self, item: T, deadline_s: float | None = None) -> R:
        """Run `item` in some batch and return its result.

        Cancelling the caller takes the item out of the queue; a batch nobody waits for any more is cancelled.

        Raises:
            Overloaded: the queue is full.
            DeadlineExceeded: `deadline_s` (`time.time()`) passed before the item's turn came.
        """
        return await self._queued([item], deadline_s)[0]

    async def submit_all(self, items: Sequence[T]) -> list[R]:
        """`submit` several, which take their places together or not at all; when one fails the others are given up."""
        futures = self._queued(items)
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                future.cancel()

    def _queued(self, items: Sequence[T], deadline_s: float | None = None) -> list[asyncio.Future[R]]:
        costs = [self._cost(item) for item in items]
        self._make_room(sum(costs))
        loop = asyncio.get_running_loop()
        new = [_Waiting(item, cost, deadline_s, loop.create_future()) for item, cost in zip(items, costs, strict=True)]
        self._queue.extend(new)
        self._queued_cost += sum(costs)
        self._start_soon()
        return [waiting.future for waiting in new]

    def _make_room(self, cost: float) -> None:
        if self._queue and self._queued_cost + cost > self._max_queue_cost:
            self._drop_abandoned()
            self._start_batches()
        if self._queue and self._queued_cost + cost > self._max_queue_cost:
            raise Overloaded(f"the queue of the {self._name} is full", retry_after_s=self._drain_time_s())

    def _drain_time_s(self) -> float:
        return max(0.1, self._queued_cost * self._seconds_per_cost)

    def _start_soon(self) -> None:
        # One turn of the loop later: callers whose answers came together ask again together.
        if not self._is_start_due:
            self._is_start_due = True
            asyncio.get_running_loop().call_soon(self._start_batches, context=contextvars.Context())

    @property
    def _num_free(self) -> int:
        allowed = self._max_concurrent_batches
        return (allowed() if callable(allowed) else allowed) - self._num_running

    def _start_batches(self) -> None:
        self._is_start_due = False
        while self._queue and self._num_free > 0 and (batch := self._take()):
            self._num_running += 1
            # A clean context: a batch serves many callers and must not be tied to the request that starts it.
            task = asyncio.get_running_loop().create_task(self._run_batch(batch), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            _cancel_when_abandoned(task, batch)

    def _take_oldest(self) -> list[_Waiting[T, R]]:
        batch: list[_Waiting[T, R]] = []
        batch_cost = 0.0
        while self._queue:
            waiting = self._queue[0]
            if self._is_live(waiting):
                if batch and batch_cost + waiting.cost > self._max_batch_cost:
                    break
                batch.append(waiting)
                batch_cost += waiting.cost
            self._queue.popleft()
            self._queued_cost -= waiting.cost
        return batch

    def _take_alike(self) -> list[_Waiting[T, R]]:
        self._drop_abandoned()
        if not self._queue:
            return []
        max_cost = min(self._max_batch_cost, self._queued_cost / self._num_free)
        oldest = self._queue[0]
        batches = cut_sorted(sorted(self._queue, key=_cost_of), _cost_of, max_cost)
        batch = next(batch for batch in batches if oldest in batch)
        taken = set(batch)
        self._queue = deque(waiting for waiting in self._queue if waiting not in taken)
        self._queued_cost -= sum(waiting.cost for waiting in batch)
        return batch

    def _is_live(self, waiting: _Waiting[T, R]) -> bool:
        if waiting.future.done():
            return False
        if waiting.deadline_s is not None and time.time() > waiting.deadline_s:
            waiting.future.set_exception(DeadlineExceeded(f"time was over in the queue of the {self._name}"))
            return False
        return True

    def _drop_abandoned(self) -> None:
        self._queue = deque(waiting for waiting in self._queue if self._is_live(waiting))
        self._queued_cost = sum(waiting.cost for waiting in self._queue)

    async def _run_batch(self, batch: list[_Waiting[T, R]]) -> None:
        started_s = time.perf_counter()
        try:
            results = await self._run([waiting.item for waiting in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"the {self._name} returned {len(results)} results for {len(batch)} items")
            for waiting, result in zip(batch, results, strict=True):
                _settle(waiting.future, result)
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.future.cancel()
            raise
        except Exception as error:
            for waiting in batch:
                _settle(waiting.future, error)
        finally:
            self._num_running -= 1
            batch_cost = sum(waiting.cost for waiting in batch) or 1.0
            self._seconds_per_cost += 0.2 * ((time.perf_counter() - started_s) / batch_cost - self._seconds_per_cost)
            self._start_batches()


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """Await all; when one fails the others are cancelled, and what failed is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def cut_sorted(items: Iterable[T], cost: Callable[[T], float], max_cost: float) -> Iterator[list[T]]:
    """Batches of `items`, which are sorted by cost, each of at most `max_cost` once all in it cost what its last does.

    An item dearer than that is a batch of its own.
    """
    batch: list[T] = []
    for item in items:
        if batch and cost(item) * (len(batch) + 1) > max_cost:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _cost_of(waiting: _Waiting) -> float:
    return waiting.cost


def _settle(future: asyncio.Future, result: object) -> None:
    if future.done():  # its caller left while the batch ran
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _cancel_when_abandoned(task: asyncio.Task, batch: list[_Waiting]) -> None:
    num_live = len(batch)

    def on_done(future: asyncio.Future) -> None:
        nonlocal num_live
        num_live -= 1
        if num_live == 0 and not task.done():
            task.cancel()

    for waiting in batch:
        waiting.future.add_done_callback(on_done)
