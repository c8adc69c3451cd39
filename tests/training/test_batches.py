import random

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


def costs(batch: list[Example]) -> int:
    return sum(map(num_source_tokens, batch))


def drawn(seed: int, num: int, **limits) -> list[list[Example]]:
    stream = batches(examples(seed), DecoderTrainingConfig(**limits))
    return [next(stream) for _ in range(num)]


def test_batches_are_within_the_limits_on_average():
    pool = drawn(0, BATCHES_IN_POOL, max_batch=1_000, max_batch_tokens=4_000)
    assert 0.8 * 4_000 * len(pool) < sum(map(costs, pool)) < 1.05 * 4_000 * len(pool)
    pool = drawn(0, BATCHES_IN_POOL, max_batch=10, max_batch_tokens=10**6)
    assert sum(map(len, pool)) == 10 * BATCHES_IN_POOL


def test_processes_have_batches_of_like_length_and_cost_at_the_same_time():
    for one, other in zip(drawn(1, 30, max_batch_tokens=4_000), drawn(2, 30, max_batch_tokens=4_000), strict=True):
        assert 0.7 < costs(one) / costs(other) < 1.4
        lengths = [costs(batch) / len(batch) for batch in (one, other)]
        assert 0.5 < lengths[0] / lengths[1] < 2


def test_nothing_is_lost_or_given_twice():
    stream = batches(examples(3), DecoderTrainingConfig(max_batch=5))
    seen = [id(example) for _ in range(BATCHES_IN_POOL) for example in next(stream)]
    assert len(seen) == len(set(seen)) == 5 * BATCHES_IN_POOL
