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


async def until_running(model: Model, num_batches: int = 1) -> None:
    async with asyncio.timeout(20):
        while len(model.batches) < num_batches:
            await asyncio.sleep(0)


def batcher(model: Model, **options) -> Batcher[int, int]:
    return Batcher(model.run, **{"max_batch_cost": 32, "max_queue_cost": 1_000} | options)


async def test_what_waits_while_the_model_is_busy_is_the_next_batch():
    model = Model()
    batch = batcher(model)
    first = asyncio.create_task(batch.submit(1))
    await until_running(model)
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
    accepted = [asyncio.create_task(batch.submit(0))]
    await until_running(model)
    accepted += [asyncio.create_task(batch.submit(i)) for i in range(1, 4)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refusal:
        await batch.submit(9)
    assert refusal.value.retry_after_s > 0
    assert await asyncio.gather(*accepted) == [0, 2, 4, 6]


async def test_a_caller_who_left_costs_nothing_and_frees_his_place():
    model = Model()
    batch = batcher(model, max_queue_cost=2)
    running = asyncio.create_task(batch.submit(1))
    await until_running(model)
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
    await until_running(model)
    with pytest.raises(DeadlineExceeded):
        await batch.submit(2, deadline_s=time.time() + 0.01)
    await running
    assert model.batches == [[1]]


async def test_several_take_their_places_together_or_not_at_all():
    model = Model()
    batch = batcher(model, max_batch_cost=2, max_queue_cost=3)
    assert await batch.submit_all([1, 2, 3]) == [2, 4, 6]
    waiting = asyncio.create_task(batch.submit_all([4, 5, 6]))
    await until_running(model, 3)
    with pytest.raises(Overloaded):
        await batch.submit_all([7, 8, 9])
    assert batch.num_waiting == 1
    assert await batch.submit_all([7, 8]) == [14, 16]
    assert await waiting == [8, 10, 12]


async def test_of_several_the_others_are_given_up_when_one_fails_or_the_caller_leaves():
    model = Model()
    batch = batcher(model, max_batch_cost=1)
    with pytest.raises(ValueError, match="-1"):
        await batch.submit_all([-1, 2, 3])
    assert await batch.submit(4) == 8
    assert [3] not in model.batches
    leaving = asyncio.create_task(batch.submit_all([5, 6]))
    await until_running(model, len(model.batches) + 1)
    leaving.cancel()
    assert await batch.submit(7) == 14
    assert [6] not in model.batches


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


async def test_who_asks_again_as_a_batch_ends_is_in_one_batch_with_the_others():
    model = Model()
    batch = batcher(model, max_concurrent_batches=2)

    async def ask_twice(i: int) -> None:
        await batch.submit(i)
        await batch.submit(i)

    await asyncio.gather(*(ask_twice(i) for i in range(8)))
    assert model.batches == [list(range(8))] * 2


async def test_as_many_batches_run_at_a_time_as_there_are_workers_by_then():
    model, num_workers = Model(), 1
    batch = batcher(model, max_batch_cost=1, max_concurrent_batches=lambda: num_workers)
    waiting = [asyncio.create_task(batch.submit(i)) for i in range(6)]
    await until_running(model)
    assert len(model.batches) == 1
    num_workers = 3
    waiting.append(asyncio.create_task(batch.submit(6)))
    await until_running(model, 3)
    assert await asyncio.gather(*waiting) == [2 * i for i in range(7)]


def lengths(model: Model) -> list[list[int]]:
    return sorted(sorted(batch) for batch in model.batches)


def by_length(model: Model, **options) -> Batcher[int, int]:
    return batcher(model, cost=float, sorts_by_cost=True, **{"max_batch_cost": 40} | options)


async def test_texts_of_like_length_share_a_batch_and_each_gets_its_own_result():
    model = Model()
    batch = by_length(model)
    first = asyncio.create_task(batch.submit(1))
    await until_running(model)
    texts = [20, 3, 19, 4, 5, 18, 40, 4]
    assert await asyncio.gather(*(batch.submit(n) for n in texts)) == [2 * n for n in texts]
    assert await first == 2
    assert lengths(model) == [[1], [3, 4, 4, 5], [18, 19], [20], [40]]


async def test_the_one_that_waits_longest_is_in_the_next_batch():
    model = Model()
    batch = by_length(model, max_batch_cost=30)
    running = [asyncio.create_task(batch.submit(30))]
    await until_running(model)
    running.append(asyncio.create_task(batch.submit(29)))
    await asyncio.sleep(0)
    for _ in range(20):
        running += [asyncio.create_task(batch.submit(3)) for _ in range(10)]
        await asyncio.sleep(0)
    await asyncio.gather(*running)
    assert model.batches[1] == [29]


async def test_idle_workers_share_what_waits():
    model = Model()
    batch = by_length(model, max_batch_cost=1_000, max_concurrent_batches=4)
    await asyncio.gather(*(batch.submit(5) for _ in range(8)))
    assert model.batches == [[5, 5]] * 4


async def test_many_callers_of_whom_some_leave_lose_nothing():
    model = Model(duration_s=0.001)
    batch = by_length(model, max_concurrent_batches=3, max_queue_cost=100_000)
    callers = [asyncio.create_task(batch.submit(1 + i % 50)) for i in range(600)]
    for i, caller in enumerate(callers):
        if i % 7 == 0:
            await asyncio.sleep(0.0005)
            caller.cancel()
    results = await asyncio.gather(*callers, return_exceptions=True)
    for i, result in enumerate(results):
        assert result == 2 * (1 + i % 50) or (i % 7 == 0 and isinstance(result, asyncio.CancelledError))
    assert not batch.num_waiting and batch._queued_cost == 0 and batch._num_running == 0
