"""What an operator is told, counted over HTTP."""

import asyncio
from collections import Counter as Tally

import httpx
import pytest

from deployments.decoder_metrics import DecoderMetrics
from deployments.http_api import create_app
from deployments.metrics import Measured, MeasuredPipeline, Metrics
from mmrag.components import AnswerDecoder
from mmrag.local import Local
from mmrag.types import DecodeRequest
from tests.conftest import all_well, config_for, serving
from tests.deployments.pictures import data_uri, png
from tests.waiting import until


class Meters:
    """Counters, gauges and histograms that can be read."""

    def __init__(self):
        self.values: dict[tuple, float] = Tally()

    def _meter(self, name: str, *description) -> "_Meter":
        return _Meter(name, self.values)

    Counter = Gauge = Histogram = _meter


class _Meter:
    def __init__(self, name: str, values: dict):
        self._name, self._values = name, values

    def inc(self, value: float = 1, tags: dict | None = None) -> None:
        assert value > 0
        self._values[(self._name, *(tags or {}).values())] += value

    def set(self, value: float, tags: dict | None = None) -> None:
        self._values[(self._name, *(tags or {}).values())] = value

    def observe(self, value: float, tags: dict | None = None) -> None:
        assert value >= 0
        self._values[(self._name, *(tags or {}).values())] += 1


class Part:
    num_waiting = 3


@pytest.fixture
def meters() -> Meters:
    return Meters()


@pytest.fixture
def local(models, tmp_path) -> Local:
    return Local(config_for(models, tmp_path))


@pytest.fixture
def metrics(local, meters) -> Metrics:
    return Metrics(local._cache, {"decoder": Part()}, meters)


@pytest.fixture
def http(local, metrics):
    config = local._config
    parts = {"text_encoder": local.text_encoder, "image_encoder": local.image_encoder, "decoder": local.decoder}
    pipeline = MeasuredPipeline(
        metrics, **parts, retriever=local.knowledge, splitter=local._splitter, cache=local._cache, limits=config.limits
    )
    app = Measured(create_app(pipeline, all_well, config), metrics)
    with serving(app) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client


def test_requests_are_counted_by_route_and_status(http, meters, metrics):
    http.get("/v1/documents/nothing")
    http.get("/v1/documents/nothing else")
    http.get("/nowhere")
    http.post("/v1/answer", json={"text": ""})
    http.get("/healthz")
    until(lambda: ("mmrag_requests", "/healthz", "200") in meters.values)  # counted when its caller knows already
    metrics.publish()
    requests = {key[1:]: value for key, value in meters.values.items() if key[0] == "mmrag_requests"}
    assert requests == {
        ("/v1/documents/{document_id:path}", "404"): 2,
        ("none", "404"): 1,
        ("/v1/answer", "422"): 1,
        ("/healthz", "200"): 1,
    }
    assert meters.values["mmrag_request_seconds", "/v1/answer"] == 1
    assert meters.values["mmrag_open_requests",] == 0
    assert meters.values["mmrag_queue_length", "decoder"] == 3


async def test_what_is_refused_before_it_comes_to_a_route_is_counted_by_its_route(local, meters, metrics):
    app = create_app(MeasuredPipeline.__new__(MeasuredPipeline), all_well, local._config)
    measured = Measured(app, metrics)

    async def refusing(scope, receive, send):
        await send({"type": "http.response.start", "status": 429, "headers": []})

    async def sent(message):
        pass

    measured._app = refusing
    for method, path in (("POST", "/v1/answer"), ("GET", "/v1/images/a"), ("POST", "/nowhere")):
        await measured({"type": "http", "method": method, "path": path, "headers": []}, None, sent)
    metrics.publish()
    routes = {key[1] for key in meters.values if key[0] == "mmrag_requests"}
    assert routes == {"/v1/answer", "/v1/images/{image_id}", "none"}


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_answers_stages_and_its_embeddings_are_counted(http, meters, metrics, is_streamed):
    query = {"text": "apple", "image": data_uri(png()), "stream": is_streamed, "max_new_tokens": 2}
    for _ in range(2):
        http.post("/v1/answer", json=query).raise_for_status()
    metrics.publish()
    stages = ("text_encoder", "image_encoder", "retriever", "decode", "decode_first_token", "total")
    for stage in stages:
        assert meters.values["mmrag_stage_seconds", stage] == 2
    assert meters.values["mmrag_cache", "misses"] == meters.values["mmrag_cache", "memory_hits"] == 2


def test_an_answer_without_a_part_is_counted_by_what_was_missing(http, meters, monkeypatch):
    from mmrag.components import ImageEmbedder
    from mmrag.errors import Unavailable

    async def down(self, images):
        raise Unavailable("no replica answers")

    monkeypatch.setattr(ImageEmbedder, "embed", down)
    http.post("/v1/search", json={"text": "apple", "image": data_uri(png())}).raise_for_status()
    assert meters.values["mmrag_degraded_answers", "image_encoder"] == 1


def test_a_route_is_a_template_so_that_their_number_has_a_bound(http, meters):
    for i in range(5):
        http.get(f"/v1/images/{i}")
    routes = {key[1] for key in meters.values if key[0] == "mmrag_requests"}
    assert routes == {"/v1/images/{image_id}"}


async def test_what_the_engine_does_is_told_as_it_is_and_what_it_did_is_counted_once(local, meters):
    decoder = local.decoder
    metrics = DecoderMetrics(decoder.stats, meters)
    asked = DecodeRequest("apple", None, None, None, [], max_new_tokens=3)
    metrics.publish()
    [answer] = await decoder.decode([asked])
    while not decoder.engine.scheduler.is_idle:  # a row is free one step after its answer is done
        await asyncio.sleep(0.01)
    for _ in range(2):
        metrics.publish()
    values = {name: value for (name,), value in meters.values.items()}
    assert values["mmrag_decoder_finished"] == 1
    assert values["mmrag_decoder_generated_tokens"] >= answer.num_tokens
    assert values["mmrag_decoder_steps"] >= values["mmrag_decoder_sequence_steps"] > 0
    assert values["mmrag_decoder_running_sequences"] == values["mmrag_decoder_kv_cache_bytes"] == 0


async def test_a_sequence_is_seen_while_it_waits_and_while_it_runs(models, meters):
    engine = AnswerDecoder(config_for(models, models).decoder).engine
    metrics = DecoderMetrics(lambda: engine.stats.as_dict(engine.scheduler), meters)
    job = engine.submit(engine.prepare(DecodeRequest("apple", None, None, None, [], max_new_tokens=200)))
    metrics.publish()
    assert meters.values["mmrag_decoder_waiting_sequences",] == 1
    while not engine.scheduler.running:
        engine.step()
    metrics.publish()
    assert meters.values["mmrag_decoder_waiting_sequences",] == 0
    assert meters.values["mmrag_decoder_running_sequences",] == 1
    assert meters.values["mmrag_decoder_kv_cache_bytes",] == job.sequence.num_bytes
    engine.cancel(job)
    engine.step()
    metrics.publish()
    assert meters.values["mmrag_decoder_running_sequences",] == meters.values["mmrag_decoder_kv_cache_bytes",] == 0
    assert meters.values["mmrag_decoder_cancelled",] == 1
