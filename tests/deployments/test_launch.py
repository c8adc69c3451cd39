"""`mmrag serve` from start to end: the service on Ray Serve, what it survives, and that nothing is left of it."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from deployments import processes
from deployments.ports import free_port
from mmrag.client import Client
from mmrag.types import Document
from tests.deployments.pictures import data_uri, png
from tests.deployments.running import ROOT, STOP_TIMEOUT_S, Running, pids_of, service_with_zubrovia, write_config
from tests.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def config(models, tmp_path_factory) -> Path:
    decoder = {"model": str(models / "fusion_decoder")}
    return write_config(tmp_path_factory.mktemp("service"), models, decoder, Retriever=2)


@pytest.fixture(scope="module")
def service(config, tmp_path_factory):
    with service_with_zubrovia(config, tmp_path_factory.mktemp("log")) as running:
        yield running


@pytest.fixture
def client(service):
    with Client(service.url) as client:
        yield client


def replicas_of(service: Running, deployment: str) -> list[int]:
    return pids_of(service, f"ServeReplica:mmrag:{deployment}")


def test_it_says_what_it_does_and_how_to_ask(service):
    for words in ("starting Ray", "starting the components", f"ready at {service.url}", "curl -s"):
        assert words in service.output


def test_the_whole_graph_answers(client):
    answer = client.answer("What is the capital of Zubrovia?", image=png(), explain=True)
    assert answer["passages"][0]["document_id"] == "zubrovia"
    assert answer["degraded"] == []
    assert {"text_encoder", "image_encoder", "retriever", "decode", "total"} <= set(answer["timings_ms"])


def test_a_stream_arrives_in_order_and_whole(client):
    *pieces, answer = client.stream("What is the capital of Zubrovia?", max_new_tokens=8)
    assert "".join(pieces) == answer["answer"]


def test_errors_cross_the_cluster_as_they_are(service):
    with httpx.Client(base_url=service.url) as http:
        assert http.get("/v1/documents/nothing").status_code == 404
        assert http.post("/v1/answer", json={"text": ""}).json()["error"]["param"] == "text"
        classify = {"text": "x", "filters": {"a": "b" * 9_999}}
        assert http.post("/v1/search", json=classify).status_code == 413
        assert http.get("/nowhere").json()["error"]["type"] == "not_found"
        big = http.post("/v1/answer", content=b" " * 40_000_000, headers={"content-type": "application/json"})
        assert big.status_code == 413


def test_many_callers_at_once_get_their_own_answers(service, client):
    texts = [f"text number {i}" for i in range(48)]
    expected = client.embed(texts)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: client.embed([text])[0], texts))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_openai_client_works(service):
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none") as ai:
        found = ai.embeddings.create(model="mmrag", input=["one", data_uri(png())])
    assert [len(item.embedding) for item in found.data] == [384, 384]


def test_a_write_is_seen_by_every_retriever(service, client):
    assert len(replicas_of(service, "Retriever")) == 2
    for i in range(12):
        name = f"Vexil{'aeiouy'[i % 6]}{i}stan"
        client.upsert([Document(f"written-{i}", name, f"{name} exists.")])
        for _ in range(4):
            assert client.search(f"{name}?", top_k=1)["passages"][0]["document_id"] == f"written-{i}"
        client.delete(f"written-{i}")
        for _ in range(4):
            found = client.search(f"{name}?", top_k=5)["passages"]
            assert f"written-{i}" not in [passage["document_id"] for passage in found]


def test_callers_who_hang_up_do_not_disturb_the_others(service, client):
    address = ("127.0.0.1", service.port)
    for i in range(20):
        body = json.dumps({"text": f"What is the capital of Zubrovia, number {i}?", "stream": bool(i % 2)}).encode()
        head = f"POST /v1/answer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        with socket.create_connection(address) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
            time.sleep(0.01 * (i % 5))
    assert client.answer("What is the capital of Zubrovia?")["passages"]


def test_a_dead_component_costs_what_it_would_have_added_and_comes_back(service, client):
    [pid] = replicas_of(service, "ImageEncoder")
    os.kill(pid, signal.SIGKILL)
    answer = client.answer("What is the capital of Zubrovia?", image=png((7, 77, 177)))
    assert answer["passages"]
    assert any("image_encoder" in note for note in answer["degraded"]) or "image_encoder" in answer["timings_ms"]
    until(lambda: all(state == "ok" for state in client.ready().values()))
    until(lambda: not client.answer("Zubrovia?", image=png((8, 88, 188)))["degraded"])
    assert replicas_of(service, "ImageEncoder") != [pid]


def test_an_operator_reads_what_happened_where_it_says(service, client):
    client.answer("What is the capital of Zubrovia?")
    [address] = re.findall(r"http://\S+/metrics", service.output)
    wanted = [
        'ray_mmrag_requests_total{.*route="/v1/answer",status="200"',
        'ray_mmrag_stage_seconds_bucket{.*stage="decode"',
        'ray_mmrag_cache_total{.*event="misses"',
        'ray_mmrag_queue_length{.*component="decoder"',
        "ray_mmrag_open_requests{",
        'ray_mmrag_stage_seconds_bucket{.*stage="decode_first_token"',
        "ray_mmrag_decoder_running_sequences{",
        "ray_mmrag_decoder_generated_tokens_total{",
    ]

    def are_exported() -> bool:  # Ray exports every 10 s
        exported = httpx.get(address, timeout=30).text
        return all(re.search(pattern, exported) for pattern in wanted)

    until(are_exported)


def test_only_the_configured_address_is_listened_at_by_the_proxy(service):
    for pid in processes.descendants_of(service.process.pid):
        if "haproxy" in processes.command_of(pid):
            assert processes.listening_addresses(pid) <= {"127.0.0.1"}


@pytest.mark.parametrize("component", ["TextEncoder", "Ingress"])
def test_models_and_event_loops_do_not_cut_in_on_each_other(service, component):
    pids = replicas_of(service, component)
    assert pids and {os.sched_getscheduler(pid) for pid in pids} == {os.SCHED_BATCH}


def test_a_component_that_cannot_start_ends_it_with_the_reason_and_no_other(models, tmp_path):
    decoder = {"model": str(models / "fusion_decoder"), "tensor_parallel_size": 7}
    refused = Running(write_config(tmp_path, models, decoder), free_port(), tmp_path / "output")
    below = set()
    while refused.process.poll() is None:
        below.update(processes.descendants_of(refused.process.pid))
        time.sleep(0.2)
    assert refused.process.returncode == 1
    assert "tensor_parallel_size 7 does not divide" in refused.output
    assert "it lost" not in refused.output
    assert below and not [pid for pid in below if os.path.exists(f"/proc/{pid}")]


def test_the_port_in_use_is_said_at_once_and_by_name(service, config):
    command = [sys.executable, "-m", "deployments.launch", "--config", str(config), "--port", str(service.port)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"mmrag already serves at {service.url}" in done.stderr
    assert f"--port {service.port + 1}" in done.stderr


def test_sigterm_stops_it_within_15_s_and_nothing_is_left(service):
    directory, below = service.directory(), processes.descendants_of(service.process.pid)
    assert len(below) > 8
    service.stop()
    assert service.process.returncode == 0
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}")]
    assert not processes.belonging_to(directory)
    assert not os.path.exists(directory)
    assert processes.is_port_free("127.0.0.1", service.port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_leaves_nothing(config, tmp_path, number):
    running = Running(config, free_port(), tmp_path / "output")
    running.wait_for("starting Ray")
    until(lambda: len(processes.descendants_of(running.process.pid)) > 3)
    directory, below = running.directory(), processes.descendants_of(running.process.pid)
    running.stop(number)
    assert not [pid for pid in below if os.path.exists(f"/proc/{pid}")]
    assert not os.path.exists(directory)


def test_below_make_only_make_stops_it_by_keeping_signals_back(config, tmp_path, monkeypatch):
    monkeypatch.setenv("MAKELEVEL", "1")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        running = Running(config, free_port(), tmp_path / "output")
        running.wait_for("starting Ray")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    assert "stopping" not in running.output
    running.stop()


def test_sigint_to_make_alone_stops_what_it_serves(config, tmp_path):
    makefile, log = tmp_path / "Makefile", tmp_path / "output"
    launch = f"{sys.executable} -m deployments.launch --config {config} --port {free_port()}"
    makefile.write_text(f"serve:\n\t@exec {launch}\n")
    make = subprocess.Popen(
        ["make", "-f", makefile, "serve"], cwd=ROOT, stdout=log.open("w"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored by what is run in the background
    )  # fmt: skip
    try:
        until(lambda: "starting Ray" in log.read_text())
        below = processes.descendants_of(make.pid)
        make.send_signal(signal.SIGINT)
        make.wait(STOP_TIMEOUT_S)
    finally:
        make.terminate()
    assert below and not [pid for pid in below if os.path.exists(f"/proc/{pid}")]
    assert "no process and no port is left behind" in log.read_text()


def test_what_a_killed_launcher_leaves_is_cleaned_up_by_the_next(config, tmp_path):
    killed = Running(config, free_port(), tmp_path / "first")
    killed.wait_for("starting Ray")
    until(lambda: len(processes.descendants_of(killed.process.pid)) > 3)
    directory = killed.directory()
    killed.stop(signal.SIGKILL)
    following = Running(config, free_port(), tmp_path / "second")
    following.wait_for("starting Ray")
    assert not processes.belonging_to(directory)
    assert not os.path.exists(directory)
    following.stop()
