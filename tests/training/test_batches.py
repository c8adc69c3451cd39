import random
import statistics

from mmrag.training.data import Example
from mmrag.training.decoder_batches import BATCHES_IN_POOL, batches, num_source_tokens
from mmrag.training.decoder_config import DecoderTrainingConfig
from mmrag.types import DecodeRequest, Passage


def examples(seed: int):
    rng = random.Random(seed)
    while True:
        texts = ["word " * rng.choice([3, 30, 150]) for _ in range(rng.randint(0, 8))]
        passages = [Passage(f"{i}#0", str(i), "title", text) for i, text in enumerate(texts)]
        yield Example(DecodeRequest("a question", None, None, None, passages), "answer")


def padded_cost(batch: list[Example]) -> int:
    return len(batch) * max(map(num_source_tokens, batch))


def test_no_batch_is_larger_than_the_limits():
    stream = batches(examples(0), DecoderTrainingConfig(max_batch=10, max_batch_tokens=3_000))
    drawn = [next(stream) for _ in range(100)]
    assert max(map(len, drawn)) == 10 and max(map(padded_cost, drawn)) <= 3_000
    assert statistics.mean(map(padded_cost, drawn)) > 1_500  # and few are much smaller


def test_examples_of_a_batch_are_of_like_length():
    stream = batches(examples(1), DecoderTrainingConfig(max_batch=16, max_batch_tokens=8_000))
    drawn = [next(stream) for _ in range(60)]
    wasted = [1 - sum(map(num_source_tokens, batch)) / padded_cost(batch) for batch in drawn]
    assert statistics.mean(wasted) < 0.2  # of unsorted ones, more than half


def test_processes_have_batches_of_like_length_at_the_same_time():
    config = DecoderTrainingConfig(max_batch=16, max_batch_tokens=8_000)
    streams = [batches(examples(seed), config) for seed in (2, 3)]
    lengths = [[max(map(num_source_tokens, next(stream))) for _ in range(200)] for stream in streams]
    assert statistics.correlation(*lengths) > 0.8


def test_nothing_is_lost_or_given_twice():
    given = []

    def noted():
        for example in examples(4):
            given.append(example)
            yield example

    stream = batches(noted(), DecoderTrainingConfig(max_batch=5))
    seen = {id(example) for _ in range(60 * BATCHES_IN_POOL) for example in next(stream)}
    assert len(seen) <= len(given)
    assert all(id(example) in seen for example in given[: len(given) // 2])


def test_an_example_larger_than_a_batch_stands_alone():
    huge = Example(DecodeRequest("?", None, None, None, [Passage("0#0", "0", "", "word " * 50_000)]), "answer")

    def mixed():
        while True:
            yield huge
            yield next(examples(5))

    stream = batches(mixed(), DecoderTrainingConfig(max_batch=8, max_batch_tokens=4_000))
    assert all(batch == [huge] for _ in range(30) for batch in [next(stream)] if huge in batch)
