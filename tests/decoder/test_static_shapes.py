"""What a GPU runs as one graph: every row and every key in each step, whoever is there. Here without one."""

import pytest
from decoder.small import PLAIN_T5, request, small_decoder
from torch import Tensor

from mmrag.decoder import attention
from mmrag.decoder.cuda_graph import NUM_TRIALS, CudaGraph
from mmrag.decoder.engine import Engine
from mmrag.decoder.scheduler import EngineLimits
from mmrag.decoder.worker import Worker

SHAPES = {"fusion": {}, "cross modal": dict(fusion="cross_modal", scores="scaled_dot"), "t5": PLAIN_T5}


class OnCpu(CudaGraph):
    """The same runs in the same order, by calls."""

    def _capture(self):
        for _ in range(NUM_TRIALS):
            self._step(*self._inputs)

    def _replay(self):
        self._outputs = self._step(*self._inputs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("explained", [None, 0, 2])
@pytest.mark.parametrize("is_graph", [False, True])
@pytest.mark.parametrize(("has_kernel", "looks_ahead"), [(False, False), (True, False), (False, True)])
def test_static_shapes_give_the_same_answers(shape, explained, is_graph, has_kernel, looks_ahead, monkeypatch):
    decoder = small_decoder(**SHAPES[shape])
    numbers = (1, 4, 2, 0, 5, 3)
    asked = [request("what?", n, max_new_tokens=5 + 3 * n, explain=i == explained) for i, n in enumerate(numbers)]
    expected = decoder.decode(asked)
    monkeypatch.setattr(attention, "has_kernel", lambda queries: has_kernel)
    worker = Worker(decoder.model, 4, 64, static_source=512)
    worker.looks_ahead = looks_ahead
    if is_graph:
        worker._graph = OnCpu(worker._compute, worker.self_cache.forget)
    engine = Engine(worker, decoder.inputs, EngineLimits(max_rows=4), 64, worker.cache_size)
    jobs = [engine.submit(engine.prepare(one)) for one in asked]
    while engine.step():
        pass
    assert [job.decoded.text for job in jobs] == [answer.text for answer in expected]
    if explained is not None:
        shares = expected[explained].attribution.passages
        assert jobs[explained].decoded.attribution.passages == pytest.approx(shares, abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_graph_reads_stays_where_it_is(shape):
    decoder = small_decoder(**SHAPES[shape])
    worker = Worker(decoder.model, 4, 64, static_source=512)
    engine = Engine(worker, decoder.inputs, EngineLimits(max_rows=4), 64, worker.cache_size)
    for n in (1, 4, 2, 0, 5):
        engine.submit(engine.prepare(request("what?", n, max_new_tokens=3 + 2 * n)))
    places = set()
    while engine.step():
        if worker.cross_cache.text.views:
            places.add(tuple(tensor.data_ptr() for tensor in read_in_a_step(worker)))
    assert len(places) == 1


def read_in_a_step(worker: Worker) -> list[Tensor]:
    tensors = worker.copy_sources.tokens.tensors() if worker.model.pointer is not None else []
    for buckets in (worker.cross_cache.text, worker.cross_cache.image):
        for view in buckets.views:
            tensors += [memory.keys for memory in view.memories] + [memory.bias for memory in view.memories]
            tensors += view.source.tensors() if view.source is not None else []
    return tensors
