"""What the engine times, by a clock that the test sets."""

from types import SimpleNamespace

import pytest
from decoder.small import request, small_decoder

from mmrag.decoder.scheduler import EngineLimits, Scheduler
from mmrag.decoder.stats import Stats


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    clock = SimpleNamespace(now_s=1_000.0)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now_s)
    return clock


def finish(stats: Stats, clock: SimpleNamespace, *seconds_before_each: float) -> None:
    job = SimpleNamespace(submitted_s=clock.now_s, read_s=clock.now_s, first_token_s=clock.now_s, num_written=1)
    for seconds in seconds_before_each:
        clock.now_s += seconds
        stats.finished(job)


def test_how_long_waiting_takes_is_judged_by_the_time_in_which_something_was_done(clock):
    stats = Stats()
    assert stats.seconds_for(5) == 1.0
    finish(stats, clock, 0.0)
    stats.took_step(0, Scheduler(EngineLimits()))  # nothing is left
    finish(stats, clock, 3_600.0, 0.1, 0.1)
    assert stats.seconds_for(5) == pytest.approx(0.5)
    stats.took_step(0, Scheduler(EngineLimits()))
    clock.now_s += 3_600
    assert stats.seconds_for(5) == pytest.approx(0.5)


def test_time_per_token_counts_the_step_that_wrote_the_end_too(clock, monkeypatch):
    decoder = small_decoder()
    engine, written = decoder.engine(), iter([100, 101, decoder.model.config.end_id])
    monkeypatch.setattr("mmrag.decoder.worker.next_tokens", lambda *given, **how: [next(written)])
    job = engine.submit(engine.prepare(request()))
    while not job.is_done:
        clock.now_s += 1.0
        engine.step()
    assert len(job.output.tokens) == 2
    assert job.decoded.timings_ms["per_token"] == 1_000.0
