"""What goes wrong for one request ends that one; what goes wrong for all ends those in flight, and nobody after."""

import pytest
from decoder.small import engine_over, is_empty, request, small_decoder

from mmrag.decoder.engine import Engine
from mmrag.decoder.prefill_aside import Reader
from mmrag.errors import DeadlineExceeded, Unavailable


def test_a_caller_who_is_gone_fails_alone_and_the_others_keep_their_tokens():
    decoder = small_decoder()
    asked = [request("what?", n, max_new_tokens=8) for n in (1, 2, 3)]
    expected = [answer.text for answer in decoder.decode(asked)]

    def loop_is_closed():
        raise RuntimeError("Event loop is closed")

    engine = engine_over(decoder)
    gone = [engine.submit(engine.prepare(asked[0], loop_is_closed, wants_pieces)) for wants_pieces in (True, False)]
    others = [engine.submit(engine.prepare(one)) for one in asked[1:]]
    while engine.step():
        pass
    assert all(isinstance(job.error, Unavailable) and "Event loop" in str(job.error) for job in gone)
    assert len(gone[0].output.tokens) == 1  # it left with the first piece that nobody took
    assert [job.decoded.text for job in others] == expected[1:]
    assert is_empty(engine)


def test_an_answer_that_cannot_be_explained_fails_alone_and_its_caller_is_told(monkeypatch):
    decoder, told = small_decoder(), []
    expected = decoder.decode([request("what?", 2)])[0].text
    monkeypatch.setattr("mmrag.decoder.engine.attribute", lambda *_: 1 / 0)
    engine = engine_over(decoder)
    job = engine.submit(engine.prepare(request(explain=True), lambda: told.append(job.is_done)))
    other = engine.submit(engine.prepare(request("what?", 2)))
    while engine.step():
        pass
    assert isinstance(job.error, Unavailable) and told == [True]
    assert other.decoded.text == expected
    assert is_empty(engine)


def test_time_over_for_a_caller_who_is_gone_concerns_nobody_else():
    engine = engine_over(small_decoder())
    job = engine.submit(engine.prepare(request(deadline_s=1.0), lambda: 1 / 0))
    other = engine.submit(engine.prepare(request()))
    while engine.step():
        pass
    assert isinstance(job.error, DeadlineExceeded)
    assert other.decoded is not None


def test_what_fails_outside_the_worker_fails_those_in_flight_too():
    engine = engine_over(small_decoder())
    job = engine.submit(engine.prepare(request()))
    original, engine.scheduler.joined = engine.scheduler.joined, lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        engine.step()
    assert isinstance(job.error, Unavailable)
    engine.scheduler.joined = original
    assert is_empty(engine)


def assert_answers_again(engine: Engine) -> None:
    """The next request is answered as ever, and nothing is left of those before it."""
    after = engine.submit(engine.prepare(request()))
    while engine.step():
        pass
    assert after.decoded.text == small_decoder().decode([request()])[0].text
    assert is_empty(engine)


def test_reading_that_fails_aside_fails_those_it_was_for_and_nobody_after():
    decoder = small_decoder()
    engine = engine_over(decoder, Reader())
    encode_by_layers, decoder.model.encode_by_layers = decoder.model.encode_by_layers, lambda chunks: 1 / 0
    job = engine.submit(engine.prepare(request()))
    with pytest.raises(ZeroDivisionError):
        engine.step()
    assert isinstance(job.error, Unavailable)
    decoder.model.encode_by_layers = encode_by_layers
    assert_answers_again(engine)


def test_a_broken_step_fails_those_in_flight_and_nobody_after():
    engine = engine_over(small_decoder())
    job = engine.submit(engine.prepare(request(max_new_tokens=60)))
    for _ in range(3):
        engine.step()
    original, engine.worker._write = engine.worker._write, lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        engine.step()
    assert isinstance(job.error, Unavailable)
    engine.worker._write = original
    assert_answers_again(engine)
