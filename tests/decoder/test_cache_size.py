"""What the scheduler counts is what there is: the bytes of every tensor that is kept, under any order of events."""

import random
from collections.abc import Iterator

import pytest
import torch
from decoder.small import PLAIN_T5, engine_over, request, small_decoder
from torch import Tensor

from mmrag.config import DecoderConfig
from mmrag.decoder import cache_size
from mmrag.decoder.cache_size import CacheSize, Place, StaticPlaces
from mmrag.decoder.engine import Engine
from mmrag.decoder.worker import Worker
from mmrag.errors import ConfigurationError

SHAPES = {"fusion": {}, "cross modal": dict(fusion="cross_modal"), "t5": PLAIN_T5}


def kept_of_sources(worker: Worker) -> Iterator[Tensor]:
    for bucket in (*worker.cross_cache.text, *worker.cross_cache.image):
        yield from bucket.tensors()
    if (tokens := worker.copy_sources.tokens) is not None:
        yield from (tokens.rows, tokens.before, tokens.places)
    for state in worker._prefill.states if worker._prefill is not None else []:
        for memory in state.text + state.image:
            if memory is not None:
                yield from (memory.keys, memory.values, memory.bias)
        yield from state.source.tensors()


def num_bytes(tensors: Iterator[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("bucket_bytes", [4 * 2**20, 30_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_more_is_kept_than_the_scheduler_counts(shape, dtype, bucket_bytes, monkeypatch):
    monkeypatch.setattr(cache_size, "MAX_BUCKET_BYTES", bucket_bytes)
    decoder, rng, most = small_decoder(**SHAPES[shape]), random.Random(3), 0.0
    decoder.model.to(dtype)
    engine = engine_over(decoder, max_rows=24, prefill_tokens=400)
    jobs, num_left = [], 60
    while num_left or not engine.scheduler.is_idle:
        for _ in range(min(num_left, rng.choice([0, 0, 1, 6]))):
            asked = request("what? " * rng.choice([1, 2, 20]), rng.choice([0, 1, 2, 6]))
            asked.max_new_tokens, num_left = rng.choice([1, 3, 10, 60]), num_left - 1
            jobs.append(engine.submit(engine.prepare(asked)))
        if jobs and rng.random() < 0.2:
            engine.cancel(rng.choice(jobs))
        engine.step()
        kept, counted = num_bytes(kept_of_sources(engine.worker)), engine.scheduler.num_bytes
        assert kept <= counted
        most = max(most, kept / max(counted, 1))
    assert most > 0.6  # and not much is counted that never is there
    assert num_bytes(kept_of_sources(engine.worker)) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_place_and_the_tables_are_counted_to_the_byte(shape):
    decoder = small_decoder(**SHAPES[shape])
    worker = Worker(decoder.model, 3, 40, static_source=512)
    engine = Engine(worker, decoder.inputs, max_new_tokens=40, cache_size=worker.cache_size)
    engine.submit(engine.prepare(request()))
    engine.step()
    assert num_bytes(kept_of_sources(worker)) == 4 * engine.scheduler.num_bytes  # rows are four at least
    tables = [tensor for layer in worker.self_cache.layers for tensor in (layer._keys, layer._values, layer._tail)]
    tables += [worker.copy_sources.tokens.can_copy] if worker.model.pointer is not None else []
    assert num_bytes(iter([*tables, worker.self_cache.question])) == worker.table_bytes


def test_a_rank_counts_its_share():
    config = small_decoder(**PLAIN_T5).model.config
    whole, half = CacheSize(config), CacheSize(config, num_ranks=2)
    place, keys_and_values = Place(160, 1), 2 * 2 * config.num_heads * config.d_kv * 160 * 4
    assert whole.text_bytes(place) - half.text_bytes(place) == keys_and_values / 2


def test_tables_that_take_most_of_the_memory_are_made_smaller_or_refused(tmp_path):
    small_decoder().save(tmp_path)
    per_rows = Worker(small_decoder().model, 4, 64).table_bytes
    config = DecoderConfig(model=str(tmp_path), max_batch=32, max_new_tokens=64, memory_bytes=5 * per_rows)
    engine = Engine.load(config)
    assert engine.scheduler.limits.max_rows == len(engine.worker.self_cache.question) == 8
    assert engine.scheduler.limits.memory_bytes == 3 * per_rows
    with pytest.raises(ConfigurationError, match="memory_bytes"):
        Engine.load(config.model_copy(update={"memory_bytes": per_rows}))


def test_places_of_static_shapes_are_counted_with_the_rows_that_are_computed_but_never_taken():
    size = CacheSize(small_decoder().model.config, static=StaticPlaces(Place(512, 8), Place(256, 8)))
    needed = size.table_bytes(8, 64) + 8 * size.static_bytes
    assert size.num_rows_within(needed, 6, 64) == 6
    assert size.num_rows_within(needed - 1, 6, 64) == 4
