import asyncio
import time

import pytest

from mmrag.batching import Batcher
from mmrag.errors import DeadlineExceeded, Overloaded


class Model:
    """Doubles numbers, one batch at a time, as slowly as it is told to."""

    def __init__(self, duration_s: float = 0.01):
        self.duration_s = duration_s
        self.batches: list[list[int]] = []
        self.num_cancelled = 0

    async def run(self, items: list[int]) -> list[int | Exception]:
        self.batches.append(items)
        try:
            await asyncio.sleep(self.duration_s)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        return [2 * item if item >= 0 else ValueError(f"negative: {item}") for item in items]


def batcher(model: Model, **options) -> Batcher[int, int]:
    return Batcher(model.run, **{"max_batch_cost": 32, "max_queue_cost": 1_000} | options)


async def test_what_waits_while_the_model_is_busy_is_the_next_batch():
    model = Model()
    batch = batcher(model)
    first = asyncio.create_task(batch.submit(1))
    await asyncio.sleep(0.001)
    rest = await asyncio.gather(*(batch.submit(i) for i in range(2, 12)))
    assert await first == 2
    assert rest == [2 * i for i in range(2, 12)]
    assert model.batches == [[1], list(range(2, 12))]


async def test_a_batch_holds_at_most_its_cost():
    model = Model()
    batch = batcher(model, max_batch_cost=10, cost=float)
    results = await asyncio.gather(*(batch.submit(i) for i in (50, 4, 5, 6, 1)))
    assert results == [100, 8, 10, 12, 2]
    assert model.batches == [[50], [4, 5], [6, 1]]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back():
    model = Model()
    batch = batcher(model, max_queue_cost=3)
    accepted = [asyncio.create_task(batch.submit(i)) for i in range(4)]
    await asyncio.sleep(0.001)
    with pytest.raises(Overloaded) as refusal:
        await batch.submit(9)
    assert refusal.value.retry_after_s > 0
    assert await asyncio.gather(*accepted) == [0, 2, 4, 6]


async def test_a_caller_who_left_costs_nothing_and_frees_his_place():
    model = Model()
    batch = batcher(model, max_queue_cost=2)
    running = asyncio.create_task(batch.submit(1))
    await asyncio.sleep(0.001)
    leaving = [asyncio.create_task(batch.submit(i)) for i in (2, 3)]
    await asyncio.sleep(0)
    for caller in leaving:
        caller.cancel()
    await asyncio.sleep(0)
    assert await batch.submit(4) == 8
    assert await running == 2
    assert model.batches == [[1], [4]]


async def test_a_batch_nobody_waits_for_is_cancelled_and_the_next_one_runs():
    model = Model(duration_s=5)
    batch = batcher(model)
    callers = [asyncio.create_task(batch.submit(i)) for i in range(3)]
    await asyncio.sleep(0.01)
    for caller in callers:
        caller.cancel()
    model.duration_s = 0.001
    assert await batch.submit(7) == 14
    assert model.num_cancelled >= 1


async def test_time_that_is_over_in_the_queue_is_said_and_not_spent():
    model = Model(duration_s=0.05)
    batch = batcher(model)
    running = asyncio.create_task(batch.submit(1))
    await asyncio.sleep(0.001)
    with pytest.raises(DeadlineExceeded):
        await batch.submit(2, deadline_s=time.time() + 0.01)
    await running
    assert model.batches == [[1]]


async def test_one_bad_item_fails_alone():
    batch = batcher(Model())
    results = await asyncio.gather(*(batch.submit(i) for i in (1, -1, 3)), return_exceptions=True)
    assert results[0] == 2 and results[2] == 6
    assert isinstance(results[1], ValueError)


async def test_a_failing_model_fails_its_batch_and_goes_on():
    model = Model()
    batch = batcher(model)

    async def fail(items):
        raise RuntimeError("out of memory")

    working, batch._run = batch._run, fail
    with pytest.raises(RuntimeError, match="out of memory"):
        await batch.submit(1)
    batch._run = working
    assert await batch.submit(1) == 2
