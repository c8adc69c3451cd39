"""Several processes on one file: each sees at once what another wrote, and no write is lost."""

import multiprocessing
import os
import signal
import threading

import numpy as np
import pytest

from mmrag.retrieval.sqlite import SqliteStore
from mmrag.types import Document, SearchRequest
from tests.retrieval.knowledge import encode, random_document, unit

_SPAWN = multiprocessing.get_context("spawn")


def _serve(path, pipe):
    # Calls methods of a store on behalf of another process.
    store = SqliteStore(path)
    while (call := pipe.recv()) is not None:
        name, arguments = call
        pipe.send(getattr(store, name)(*arguments))
    store.close()


@pytest.fixture
def other_process(tmp_path):
    pipe, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(tmp_path / "k.sqlite", theirs))
    process.start()

    def call(name, *arguments):
        pipe.send((name, arguments))
        assert pipe.poll(30), "the other process does not answer"
        return pipe.recv()

    yield call
    pipe.send(None)
    process.join(30)
    assert process.exitcode == 0


def test_what_one_process_writes_another_finds_at_once(tmp_path, other_process):
    random = np.random.default_rng(0)
    ours = SqliteStore(tmp_path / "k.sqlite")
    request = SearchRequest(text="apple", text_embedding=unit(random), image_embedding=unit(random), tenant="t")
    for step in range(15):
        documents = [random_document(random, int(number)) for number in random.choice(30, 8, replace=False)]
        if step % 2:
            ours.upsert("t", documents)
            ours.delete("t", documents[0].document.id)
        else:
            other_process("upsert", "t", documents)
            other_process("delete", "t", documents[0].document.id)
        here, there = ours.candidates([request], 100), other_process("candidates", [request], 100)
        fresh = SqliteStore(tmp_path / "k.sqlite")
        assert [_outline(found) for found in (here, there)] == [_outline(fresh.candidates([request], 100))] * 2
        assert all(key[0] != documents[0].document.id for scored in here[0].values() for key, _ in scored)
        fresh.close()
    ours.close()


def _outline(found):
    return {branch: [(key, round(score, 4)) for key, score in scored] for branch, scored in found[0].items()}


def _write_many(path, writer, count):
    store = SqliteStore(path)
    random = np.random.default_rng(writer)
    for i in range(count):
        store.upsert("t", [encode(Document(id=f"{writer}-{i}", text="x"), [("x", unit(random))], [unit(random)])])
    store.close()


def test_concurrent_writers_lose_nothing(tmp_path):
    path = tmp_path / "k.sqlite"
    writers = [_SPAWN.Process(target=_write_many, args=(path, writer, 12)) for writer in range(3)]
    for writer in writers:
        writer.start()
    store = SqliteStore(path)
    threads = [threading.Thread(target=_write_many, args=(path, writer, 12)) for writer in range(3, 5)]
    for thread in threads:
        thread.start()
    request = SearchRequest(text_embedding=unit(np.random.default_rng(9)), tenant="t")
    while any(thread.is_alive() for thread in threads):
        store.candidates([request], 10)
    for worker in [*writers, *threads]:
        worker.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert store.count("t") == 60
    (found,) = store.candidates([request], 200)
    assert {key[0] for key, _ in found["text_text"]} == {f"{w}-{i}" for w in range(5) for i in range(12)}
    assert len(found["text_image"]) == 60
    store.close()


def _write_for_ever(path, ready):
    store = SqliteStore(path)
    random = np.random.default_rng(0)
    for batch in range(10_000):
        store.upsert("t", [encode(Document(id=f"{batch}-{i}", text="x"), [("x", unit(random))]) for i in range(20)])
        if batch == 3:
            ready.set()


def test_a_killed_writer_leaves_whole_batches(tmp_path):
    ready = _SPAWN.Event()
    writer = _SPAWN.Process(target=_write_for_ever, args=(tmp_path / "k.sqlite", ready))
    writer.start()
    assert ready.wait(60)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(30)
    store = SqliteStore(tmp_path / "k.sqlite")
    count = store.count("t")
    assert count >= 80 and count % 20 == 0
    (found,) = store.candidates([SearchRequest(text_embedding=unit(np.random.default_rng(1)), tenant="t")], 10**6)
    assert len(found["text_text"]) == count
    store.close()
