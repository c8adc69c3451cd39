"""A decoder shared by two processes on a real Ray Serve: it answers as one does, loses a rank, and comes back."""

import asyncio
import os
import signal
import threading
import time

import pytest
import yaml

from deployments import processes
from deployments.app import build_with
from deployments.fast_path import free_port
from deployments.fusion_decoder import with_places
from mmrag.client import Client
from mmrag.config import AppConfig, DecoderConfig
from mmrag.config_file import read_config
from mmrag.errors import MmragError
from mmrag.local import Local
from tests.deployments.test_launch import ROOT, ZUBROVIA, Running, until

TEXTS = ["What is the capital of Zubrovia?", "Where does the grosz come from, and who pays with it?"]


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
    written = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    [application] = written["applications"]
    application["args"] |= {
        "image_encoder": {"model": str(models / "image_encoder")},
        "decoder": {"model": str(models / "fusion_decoder"), "tensor_parallel_size": 2, "num_threads": 1},
        "retriever": {"path": "knowledge.sqlite"},
    }
    path = tmp_path_factory.mktemp("service") / "serve_config.yaml"
    path.write_text(yaml.safe_dump(written))
    return path


@pytest.fixture(scope="module")
def service(config, tmp_path_factory):
    running = Running(config, free_port(), tmp_path_factory.mktemp("log") / "output")
    try:
        running.wait_for("ready at")
        with Client(running.url) as client:
            client.upsert([ZUBROVIA])
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)


def pids_of(service: Running, name: str) -> list[int]:
    return [pid for pid in processes.descendants_of(service.process.pid) if name in processes.command_of(pid)]


def ranks_of(service: Running) -> list[int]:
    return pids_of(service, "ray::Rank")


def answers_of(service: Running) -> list[str]:
    with Client(service.url) as client:
        return [client.answer(text, max_new_tokens=40)["answer"] for text in TEXTS]


@pytest.mark.integration
def test_a_lost_rank_fails_what_is_in_flight_and_the_replica_is_replaced(service):
    expected = answers_of(service)
    [rank], [replica] = ranks_of(service), pids_of(service, "ServeReplica:mmrag:FusionDecoder")
    outcomes, stop = [], threading.Event()

    def ask() -> None:
        with Client(service.url) as client:
            while not stop.is_set():
                started_s = time.monotonic()
                try:
                    outcomes.append(client.answer(TEXTS[0], max_new_tokens=40)["answer"])
                except MmragError as error:
                    outcomes.append(type(error).__name__)
                    stop.wait(0.2)
                assert time.monotonic() - started_s < 60

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for caller in callers:
        caller.start()
    time.sleep(1)
    os.kill(rank, signal.SIGKILL)
    until(lambda: [pid for pid in ranks_of(service) if pid != rank])
    until(lambda: outcomes[-1:] == expected[:1])
    stop.set()
    for caller in callers:
        caller.join()
    assert set(outcomes) <= {expected[0], "Unavailable", "RankLost", "Overloaded", "DeadlineExceeded"}
    assert answers_of(service) == expected
    assert not os.path.exists(f"/proc/{replica}")
    assert len(ranks_of(service)) == 1


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
    alone = alone.model_copy(update={"decoder": alone.decoder.model_copy(update={"tensor_parallel_size": 1})})
    retriever = alone.retriever.model_copy(update={"path": str(config.parent / alone.retriever.path)})
    local = Local(alone.model_copy(update={"retriever": retriever}))
    asked = [asyncio.run(local.query("answer", {"text": text, "max_new_tokens": 40})) for text in TEXTS[:1]]
    assert answers_of(service)[:1] == [answer["answer"] for answer in asked]


@pytest.mark.integration
def test_nothing_is_left_when_it_stops(service):
    below = processes.descendants_of(service.process.pid)
    assert set(ranks_of(service)) <= set(below) and ranks_of(service)
    assert service.stop() < 20
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}")]
