"""The engine: whatever arrives when, with whom and however it ends, each answer is what it would have been alone."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from decoder.small import PLAIN_T5, engine_over, is_empty, passage, request, small_decoder

from mmrag.decoder import FusionDecoder
from mmrag.decoder.packed import can_pack, pack
from mmrag.decoder.prefill_aside import Reader
from mmrag.errors import DeadlineExceeded, InvalidRequest, Overloaded
from mmrag.types import DecodeRequest, Sampling

SHAPES = {
    "fusion": {},
    "fusion as in the atlas": dict(
        d_model=128, d_kv=32, d_ff=512, num_layers=3, question_in_decoder=True, sentence_pooling=True
    ),
    "fusion that reads states": dict(question_model="any", question_layers=[2, 4], question_in_decoder=True),
    "cross modal": dict(fusion="cross_modal", scores="scaled_dot"),
    "t5 v1.0": PLAIN_T5,
    "t5 v1.1": PLAIN_T5 | dict(gated=True, tied_head=False, scale_output=False, d_model=48, num_decoder_layers=3),
}


@pytest.fixture(params=[f"{shape}{kind}" for shape in SHAPES for kind in ("", ", packed")], scope="module")
def decoder(request) -> FusionDecoder:
    shape, _, packed = request.param.partition(", ")
    decoder = small_decoder(**SHAPES[shape])
    if packed:
        if not can_pack("cpu", torch.float32):
            pytest.skip("this processor does not gain from packing")
        pack(decoder.model)
    return decoder


def random_request(rng: random.Random) -> DecodeRequest:
    words = ["capital", "currency", "of", "the", "a", "Quito", "river", "flag", "red", "seven"]
    text = " ".join(rng.choices(words, k=rng.choice([1, 3, 8, 12])))
    asked = request(text, rng.randrange(6), max_new_tokens=rng.choice([1, 2, 5, 11, 30]), explain=rng.random() < 0.2)
    for found in asked.passages:
        found.text = " ".join(rng.choices([*words, "Long.", "End!\n"], k=rng.choice([1, 5, 12, 30])))
    if rng.random() < 0.3:
        asked = replace(asked, image_embedding=None, image_grid=None)
    elif rng.random() < 0.5:
        asked.image_grid = asked.image_grid[: rng.randint(1, len(asked.image_grid))]
    if rng.random() < 0.3:
        drawn = Sampling(temperature=1.3, top_k=rng.choice([0, 5]), top_p=0.9, seed=rng.randrange(99))
        return replace(asked, sampling=drawn)
    if rng.random() < 0.2:
        return replace(asked, task="classify", labels=rng.sample(words, 4) if rng.random() < 0.6 else [])
    return asked


@pytest.mark.parametrize("looks_ahead", [False, True])
@pytest.mark.parametrize(("seed", "reader"), [(0, None), (1, Reader())])
def test_any_schedule_gives_the_answers_of_one_at_a_time(decoder, seed, reader, looks_ahead):
    rng = random.Random(seed)
    asked = [random_request(rng) for _ in range(14)]
    if not decoder.model.config.labels or decoder.model.labels is None:
        asked = [one for one in asked if one.task != "classify" or one.labels]
    alone = [decoder.decode([one])[0] for one in asked]
    memory_bytes = 1.5 * max(engine_over(decoder).prepare(one).sequence.num_bytes for one in asked)
    engine = engine_over(decoder, reader, max_rows=rng.choice([2, 5]), prefill_tokens=rng.choice([1, 60]),
                         memory_bytes=memory_bytes * rng.choice([1, 4]), group_tokens=rng.choice([100, 2_000]))
    engine.worker.looks_ahead = looks_ahead
    waiting, jobs, cancelled, was_ahead = list(range(len(asked))), {}, set(), False
    rng.shuffle(waiting)
    while waiting or not engine.scheduler.is_idle:
        while waiting and rng.random() < 0.4:
            index = waiting.pop()
            jobs[index] = engine.submit(engine.prepare(asked[index]))
        if jobs and rng.random() < 0.05:
            cancelled.add(index := rng.choice(list(jobs)))
            engine.cancel(jobs[index])
        engine.step()
        was_ahead |= engine.worker._ahead is not None
        assert engine.scheduler.num_bytes <= engine.scheduler.limits.memory_bytes
        assert len(engine.worker.self_cache) <= engine.scheduler.limits.max_rows
    assert is_empty(engine)
    assert was_ahead == looks_ahead
    assert len(cancelled) < len(asked)
    for index, job in jobs.items():
        if job.decoded is None:
            assert index in cancelled
            continue
        assert job.decoded.text == alone[index].text
        assert job.decoded.num_tokens == alone[index].num_tokens
        if asked[index].task == "classify":
            scores = {label.label: label.score for label in job.decoded.labels}
            assert scores == pytest.approx({label.label: label.score for label in alone[index].labels}, abs=1e-5)
        found, expected = job.decoded.attribution, alone[index].attribution
        assert (found is None) == (expected is None)
        if expected is not None:
            assert found.passages == pytest.approx(expected.passages, abs=1e-3)
            assert (found.regions is None) == (expected.regions is None)
            for regions, same in zip(found.regions or [], expected.regions or [], strict=True):
                assert regions == pytest.approx(same, abs=1e-3)


@pytest.mark.parametrize("reader", [None, Reader()])
def test_scores_are_the_same_to_the_last_bit(decoder, reader):
    """Company changes no bit of what is chosen from, so that not even a near tie is decided otherwise."""
    asked = [request("what?", n, max_new_tokens=12) for n in (1, 4, 2, 0, 5)]
    alone = [scores_of(decoder, [one])[0] for one in asked]
    for one, other in zip(alone, scores_of(decoder, asked, reader), strict=True):
        assert len(one) == len(other) > 0
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def scores_of(
    decoder: FusionDecoder, asked: list[DecodeRequest], reader: Reader | None = None, **limits
) -> list[list[torch.Tensor]]:
    """The scores of each step of each request."""
    engine = engine_over(decoder, reader, **limits)
    jobs = [engine.submit(engine.prepare(one)) for one in asked]
    seen: list[list[torch.Tensor]] = [[] for _ in asked]
    original = engine.worker._scores

    def noting(hidden, recent):
        scores, copyings = original(hidden, recent)
        for row, sequence in enumerate(engine.worker._sequences):
            index = next(i for i, job in enumerate(jobs) if job.admission is sequence)
            seen[index].append(scores[row].clone())
        return scores, copyings

    engine.worker._scores = noting
    while engine.step():
        pass
    return seen


def test_who_has_no_embeddings_sees_nothing_of_those_who_had_the_place_before():
    decoder = small_decoder()
    bare = request(text_embedding=None, image_embedding=None, image_grid=None, question_states=None)
    for found in bare.passages:
        found.text_embedding = found.image_embedding = None
    [alone] = scores_of(decoder, [bare])
    *_, behind_others = scores_of(decoder, [request(), request(max_new_tokens=1), bare], max_rows=2)
    assert len(alone) == len(behind_others) > 0
    assert all(torch.equal(one, other) for one, other in zip(alone, behind_others, strict=True))


def test_newcomers_do_not_wait_for_others_to_end():
    engine = engine_over(small_decoder())
    long = engine.submit(engine.prepare(request(max_new_tokens=60)))
    for _ in range(5):
        engine.step()
    short = engine.submit(engine.prepare(request("who?", 1, max_new_tokens=1)))
    while not short.is_done:
        engine.step()
    assert not long.is_done


def test_reading_does_not_stop_those_who_write():
    engine = engine_over(small_decoder(), prefill_tokens=1)
    first = engine.submit(engine.prepare(request(max_new_tokens=60)))
    while not first.output.tokens:
        engine.step()
    engine.submit(engine.prepare(request("another", 5)))
    engine.step()
    num_before = len(first.output.tokens)
    engine.step()
    assert engine.scheduler.reading
    assert len(first.output.tokens) == num_before + 1


def test_a_full_queue_refuses_and_what_never_fits_is_said_at_once():
    engine = engine_over(small_decoder(), max_waiting=2)
    for _ in range(2):
        engine.submit(engine.prepare(request()))
    with pytest.raises(Overloaded) as refusal:
        engine.submit(engine.prepare(request()))
    assert refusal.value.retry_after_s > 0
    with pytest.raises(InvalidRequest, match="memory"):
        tight = engine_over(small_decoder(), memory_bytes=1_000)
        tight.submit(tight.prepare(request()))
    with pytest.raises(InvalidRequest, match="max_new_tokens"):
        engine.prepare(request(max_new_tokens=65))


def test_time_runs_out_while_waiting_reading_and_writing():
    engine = engine_over(small_decoder(), max_rows=2, prefill_tokens=1, group_tokens=1)
    jobs = [engine.submit(engine.prepare(request(max_new_tokens=60))) for _ in range(3)]
    while not jobs[0].output.tokens:
        engine.step()
    scheduler = engine.scheduler
    assert [len(scheduler.running), len(scheduler.reading), len(scheduler.waiting)] == [1, 1, 1]
    for job in jobs:
        job.sequence.deadline_s = time.time() - 1
    engine.step()
    assert all(isinstance(job.error, DeadlineExceeded) for job in jobs)
    while engine.step():
        pass
    assert is_empty(engine)


def test_stop_strings_end_the_text_and_are_not_in_it():
    decoder = small_decoder()
    whole = decoder.decode([request(max_new_tokens=40)])[0].text
    stop = whole[3:5]
    answer = decoder.decode([request(max_new_tokens=40, sampling=Sampling(stop=(stop,)))])[0]
    assert answer.text == whole[: whole.index(stop)].rstrip()
    assert answer.finish_reason == "stop"
    *pieces, last = decoder.stream(request(max_new_tokens=40, sampling=Sampling(stop=(stop,)), explain=True))
    assert "".join(pieces) == last.text == answer.text
    assert "".join(token["token"] for token in last.attribution.tokens).strip() == answer.text


def test_a_seed_draws_the_same_answer_again_and_another_one_another():
    decoder = small_decoder()
    drawn = [replace(request(max_new_tokens=20), sampling=Sampling(temperature=2.0, seed=seed)) for seed in (1, 1, 2)]
    first, second, third = (answer.text for answer in decoder.decode(drawn))
    assert first == second != third
    greedy = decoder.decode([request(max_new_tokens=20)])[0].text
    likeliest = Sampling(temperature=2.0, top_k=1, seed=3)
    assert decoder.decode([request(max_new_tokens=20, sampling=likeliest)])[0].text == greedy


def test_explaining_costs_nothing_when_it_is_off():
    decoder = small_decoder()
    engine = engine_over(decoder)
    engine.submit(engine.prepare(request()))
    while engine.step():
        assert not any(memory.is_kept or memory.kept for memory in engine.worker._state.text)


def test_long_sources_share_buckets_with_short_ones():
    decoder = small_decoder()
    texts = ["word " * n for n in (1, 9, 20, 33, 40, 41, 47)]
    asked = [replace(request("q", 0), passages=[passage("p", text, 1)], max_new_tokens=9) for text in texts]
    together = [answer.text for answer in decoder.decode(asked)]
    assert together == [decoder.decode([one])[0].text for one in asked]
    assert np.unique(together).size > 1


def test_half_precision_runs_the_same_way():
    decoder = small_decoder()
    decoder.model.bfloat16()
    answers = decoder.decode([request(explain=True, max_new_tokens=4), request(task="classify", labels=["a", "b"])])
    assert answers[0].num_tokens <= 4 and len(answers[1].labels) == 2
