"""The scheduler alone: order, budgets, rows; no model."""

import random

import pytest

from mmrag.decoder.scheduler import EngineLimits, Scheduler, Sequence
from mmrag.errors import InvalidRequest, Overloaded


def scheduler(**limits) -> Scheduler:
    return Scheduler(
        EngineLimits(**{"max_rows": 3, "memory_bytes": 100, "group_tokens": 50, "prefill_tokens": 8} | limits)
    )


def test_sequences_are_taken_in_order_and_as_many_as_fit():
    one = scheduler()
    small, large, last = Sequence(10, 30), Sequence(10, 60), Sequence(10, 30)
    for sequence in (small, large, last):
        one.submit(sequence, 1.0)
    assert one.decide().join == [small, large]  # the last would fit only once another has left
    one.joined()
    assert one.decide().join == []
    one.drop(small)
    decision = one.decide()
    assert decision.leave == [0]
    assert decision.join == [last]
    assert one.num_bytes == 90


def test_a_large_request_is_not_overtaken():
    one = scheduler()
    first, large, small = Sequence(1, 50), Sequence(1, 60), Sequence(1, 10)
    for sequence in (first, large, small):
        one.submit(sequence, 1.0)
    assert one.decide().join == [first]
    one.joined()
    assert one.decide().join == []
    assert list(one.waiting) == [large, small]


def test_a_group_ends_at_its_tokens_but_takes_one_longer_than_that():
    one = scheduler()
    for num_tokens in (80, 30, 30):
        one.submit(Sequence(num_tokens, 1), 1.0)
    assert [sequence.num_tokens for sequence in one.decide().join] == [80]
    one.joined()
    assert [sequence.num_tokens for sequence in one.decide().join] == [30]


def test_reading_takes_all_the_time_only_while_nobody_writes():
    one = scheduler()
    one.submit(Sequence(1, 1), 1.0)
    assert one.decide().prefill_tokens == float("inf")
    one.joined()
    one.submit(Sequence(1, 1), 1.0)
    assert one.decide().prefill_tokens == 8


def test_refusals():
    one = scheduler(max_waiting=1)
    with pytest.raises(InvalidRequest, match="memory"):
        one.submit(Sequence(1, 101), 1.0)
    one.submit(Sequence(1, 1), 1.0)
    with pytest.raises(Overloaded) as refusal:
        one.submit(Sequence(1, 1), 7.5)
    assert refusal.value.retry_after_s == 7.5


def test_what_nobody_wants_any_more_is_not_read_to_the_end():
    one = scheduler()
    sequences = [Sequence(1, 10), Sequence(1, 10)]
    for sequence in sequences:
        one.submit(sequence, 1.0)
    one.decide()
    one.drop(sequences[0])
    assert not one.decide().abandon
    one.drop(sequences[1])
    assert one.decide().abandon
    assert one.is_idle and one.num_bytes == 0


def test_rows_follow_any_order_of_events():
    """A worker that does as it is told has the sequences in the very rows where the scheduler thinks they are."""
    rng, one = random.Random(5), scheduler(memory_bytes=60, max_waiting=1_000)
    rows: list[Sequence] = []
    reading: list[Sequence] = []
    everyone: list[Sequence] = []
    for _ in range(3_000):
        if rng.random() < 0.5:
            everyone.append(Sequence(rng.randrange(1, 40), rng.randrange(1, 40), rng.choice([None, rng.random()])))
            one.submit(everyone[-1], 1.0)
        if everyone and rng.random() < 0.5:
            one.drop(rng.choice(everyone))
        for sequence in one.expired(now_s=0.01):
            one.drop(sequence)
        decision = one.decide()
        for row in decision.leave:
            last = rows.pop()
            if row < len(rows):
                rows[row] = last
        assert rows == one.running and not any(sequence.is_gone for sequence in rows)
        assert one.num_bytes <= 60 and len(rows) + len(one.reading) <= 3
        reading = [] if decision.abandon else reading
        reading += decision.join
        if reading and rng.random() < 0.5:
            rows, reading = rows + reading, []
            one.joined()
    for sequence in everyone:
        one.drop(sequence)
    one.decide()
    one.joined()
    one.decide()
    assert one.is_idle and one.num_bytes == 0
