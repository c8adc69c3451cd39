"""A decoder shared by two processes on a real Ray Serve: it answers as one does, loses a rank, and comes back."""

import asyncio
import os
import re
import signal
import threading

import pytest

from deployments import processes
from deployments.app import build_with
from deployments.fusion_decoder import with_places
from mmrag.client import Client
from mmrag.config import AppConfig, DecoderConfig
from mmrag.config_file import read_config
from mmrag.local import Local
from tests.deployments.running import ROOT, Running, pids_of, service_with_zubrovia, write_config
from tests.waiting import until

MAX_NEW_TOKENS = 40
CLEAR = r"Unavailable: .*(a rank of the sharded decoder was lost|does not answer|was lost while it answered)"
TEXTS = ["What is the capital of Zubrovia?", "Where does the government of Zubrovia sit?"]


def test_a_place_for_each_rank_and_what_the_file_says_comes_first():
    shared = DecoderConfig(tensor_parallel_size=2)
    assert with_places({"num_replicas": 3}, DecoderConfig()) == {"num_replicas": 3}
    given = with_places({"ray_actor_options": {"num_cpus": 1, "num_gpus": 1}, "num_replicas": 3}, shared)
    assert given["placement_group_bundles"] == [{"CPU": 1, "GPU": 1}] * 2
    assert given["placement_group_strategy"] == "STRICT_PACK"
    assert given["num_replicas"] == 3
    assert with_places({"placement_group_strategy": "SPREAD"}, shared)["placement_group_strategy"] == "SPREAD"
    assert with_places({}, shared)["placement_group_bundles"] == [{"CPU": 0.2}] * 2
    build_with(AppConfig(decoder=shared), {})  # Serve accepts these options


@pytest.fixture(scope="module")
def config(models, tmp_path_factory):
    decoder = {"model": str(ROOT / "atlas/weights/fusion_decoder"), "tensor_parallel_size": 2, "num_threads": 1}
    return write_config(tmp_path_factory.mktemp("service"), models, decoder)


@pytest.fixture(scope="module")
def service(config, tmp_path_factory):
    with service_with_zubrovia(config, tmp_path_factory.mktemp("log")) as running:
        yield running


def ranks_of(service: Running) -> list[int]:
    return pids_of(service, "ray::Rank")


def answers_of(service: Running) -> list[str]:
    with Client(service.url) as client:
        return [client.answer(text, max_new_tokens=MAX_NEW_TOKENS)["answer"] for text in TEXTS]


@pytest.mark.integration
def test_a_lost_rank_fails_what_is_in_flight_and_the_replica_is_replaced(service):
    expected = answers_of(service)
    [rank], [replica] = ranks_of(service), pids_of(service, "ServeReplica:mmrag:FusionDecoder")
    assert expected == ["Lutzport"] * 2
    answers, errors, stop = [], [], threading.Event()

    def ask(is_streamed: bool) -> None:
        with Client(service.url, timeout_s=60) as client:
            while not stop.is_set():
                try:
                    answers.append(one_answer(client, is_streamed))
                except Exception as error:  # of any kind: what a thread raises fails no test
                    errors.append(f"{type(error).__name__}: {error}")
                    stop.wait(0.2)

    callers = [threading.Thread(target=ask, args=(bool(i % 2),)) for i in range(4)]
    for caller in callers:
        caller.start()
    until(lambda: len(answers) > 8)
    os.kill(rank, signal.SIGKILL)
    until(lambda: errors)  # there is no other replica to turn to
    num_before = len(answers)
    until(lambda: len(answers) > num_before + 8)
    stop.set()
    for caller in callers:
        caller.join()
    assert set(answers) == {expected[0]}
    assert all(re.match(CLEAR, error) for error in errors), errors
    assert answers_of(service) == expected
    assert not os.path.exists(f"/proc/{replica}")
    [another] = ranks_of(service)
    assert another != rank


def one_answer(client: Client, is_streamed: bool) -> str:
    fields = {"text": TEXTS[0], "max_new_tokens": MAX_NEW_TOKENS}
    if not is_streamed:
        return client.answer(**fields)["answer"]
    *pieces, last = client.stream(**fields)
    assert "".join(pieces) == last["answer"]
    return last["answer"]


@pytest.mark.integration
def test_a_killed_replica_takes_its_ranks_along(service):
    expected = answers_of(service)
    [rank], [replica] = ranks_of(service), pids_of(service, "ServeReplica:mmrag:FusionDecoder")
    os.kill(replica, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{rank}"))
    with Client(service.url) as client:
        until(lambda: set(client.ready().values()) == {"ok"})
    assert answers_of(service) == expected


@pytest.mark.integration
def test_it_answers_as_one_process_does(service, config):
    alone = read_config(config)
    decoder = alone.decoder.model_copy(update={"tensor_parallel_size": 1})
    local = Local(alone.model_copy(update={"decoder": decoder}))
    asked = [asyncio.run(local.query("answer", {"text": text, "max_new_tokens": MAX_NEW_TOKENS})) for text in TEXTS]
    assert answers_of(service) == [answer["answer"] for answer in asked]


@pytest.mark.integration
def test_nothing_is_left_when_it_stops(service):
    below = processes.descendants_of(service.process.pid)
    assert set(ranks_of(service)) <= set(below) and ranks_of(service)
    service.stop()
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}")]
