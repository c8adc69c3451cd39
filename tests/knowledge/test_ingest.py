import asyncio
import io
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from PIL import Image

from mmrag.config import Limits, PassageConfig
from mmrag.errors import InvalidImage, InvalidRequest, NotFound, TooLarge
from mmrag.images import image_id
from mmrag.knowledge.ingest import Ingestor
from mmrag.knowledge.passages import Splitter
from mmrag.retrieval.sqlite import SqliteStore
from mmrag.types import Document, ImageEmbeddings, Refusal, SearchRequest
from tests.knowledge.test_passages import WordTokenizer


class LetterEncoder:
    """Embeds a text by its letters and a picture by its mean colour: float32 [n, 26]."""

    def __init__(self):
        self.texts: list[str] = []
        self.num_images = 0

    async def embed(self, items):
        self.texts += [item for item in items if isinstance(item, str)]
        self.num_images += sum(not isinstance(item, str) for item in items)
        rows = np.array([self._row(item) for item in items], dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows if isinstance(items[0], str) else ImageEmbeddings(rows, np.zeros((len(items), 1, 1), np.float16))

    def _row(self, item):
        if isinstance(item, str):
            return [item.lower().count(chr(97 + i)) + 0.01 for i in range(26)]
        return [*item[..., :3].mean(axis=(0, 1)), 1.0] + [0.0] * 22


class InThread:
    """A store whose methods are awaited, as they are behind a handle."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        async def call(*arguments):
            return await asyncio.to_thread(getattr(self._store, name), *arguments)

        return call


def _png(red, green=0, blue=0):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (red, green, blue)).save(file, "PNG")
    return file.getvalue()


def _ingestor(store, encoder, passages=PassageConfig(), limits=Limits()):
    return Ingestor(encoder, encoder, InThread(store), Splitter(WordTokenizer(), passages), limits)


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "k.sqlite")
    yield store
    store.close()


async def test_a_document_is_cut_encoded_and_found(store):
    encoder = LetterEncoder()
    text = "Zebras graze. " * 20
    documents = [
        Document("z", "Zoo", text, [_png(255), _png(0, 255)], ["animal"]),
        Document("picture", images=[_png(0, 0, 255)]),
        Document("title", "Only a title"),
    ]
    report = await _ingestor(store, encoder, PassageConfig(max_tokens=30, overlap_tokens=0)).add("t", documents)
    assert (report.num_upserted, report.num_passages, report.num_images) == (3, 4, 3)
    assert [store.get("t", document.id) for document in documents] == documents
    assert encoder.texts == ["Zoo: " + ("Zebras graze. " * 10).strip()] * 2 + ["Only a title"]
    query = (await LetterEncoder().embed(["zebra"]))[0]
    (found,) = store.candidates([SearchRequest(text_embedding=query, tenant="t")], 9)
    assert [key for key, _ in found["text_text"]][:2] == [("z", 0), ("z", 1)]
    red = (await LetterEncoder().embed([np.full((2, 2, 3), (250, 0, 0))])).embeddings[0]
    (found,) = store.candidates([SearchRequest(image_embedding=red, tenant="t")], 9)
    assert found["image_image"][0][0] == ("z", None)
    assert store.image("t", image_id(_png(0, 0, 255))).media_type == "image/png"
    passage = store.passages([SearchRequest(tenant="t")], [[("z", 1)]])[0][0]
    assert text[passage.start : passage.end] == passage.text


@pytest.mark.parametrize(
    ("bad", "kind", "param"),
    [
        (Document("bad", images=[_png(1), b"GIF89a broken"]), InvalidImage, "documents[1].images[1]"),
        (Document("bad", images=[_png(1)] * 17), TooLarge, "documents[1].images"),
        (Document("bad", "\ud800"), InvalidRequest, "documents[1].title"),
        (Document("first", "again"), InvalidRequest, "documents[1].id"),
    ],
)
async def test_one_bad_document_in_a_call_keeps_all_of_it_out(store, bad, kind, param):
    documents = [Document("first", "one"), bad, Document("last", "two", images=[_png(9)])]
    with pytest.raises(kind) as error:
        await _ingestor(store, LetterEncoder()).add("t", documents)
    assert error.value.param == param
    assert f"documents[1] ({bad.id!r})" in str(error.value)
    assert store.count("t") == 0
    with pytest.raises(NotFound):
        store.image("t", image_id(_png(9)))


async def test_too_many_documents_in_a_call_are_refused(store):
    ingestor = _ingestor(store, LetterEncoder(), limits=Limits(max_documents=2))
    with pytest.raises(TooLarge, match="at most 2"):
        await ingestor.add("t", [Document(str(i), "x") for i in range(3)])


async def test_from_a_source_the_good_ones_are_taken_and_the_others_reported(store):
    reports = []
    source = [
        Document("a", "one", images=[_png(1)]),
        Refusal("b", "things.jsonl:2: no good", "text"),
        Document("c", images=[b"no picture"]),
        Document("d", " "),
        Document("e", "five"),
    ]
    report = await _ingestor(store, LetterEncoder()).add_each(
        "t", iter(source), lambda r: reports.append(r.num_upserted)
    )
    assert (report.num_upserted, store.count("t"), reports) == (2, 2, [2])
    assert [(refusal.document_id, refusal.param) for refusal in report.refused] == [
        ("b", "text"), ("c", "images[0]"), ("d", "text"),
    ]  # fmt: skip


async def test_what_is_unchanged_is_not_encoded_again(store):
    documents = [Document(str(i), f"title {i}", "text", [_png(i)], metadata={"n": i}) for i in range(5)]
    await _ingestor(store, LetterEncoder()).add_each("t", documents)
    documents[2].metadata["n"] = 99
    documents[3].images = [_png(200)]
    encoder = LetterEncoder()
    report = await _ingestor(store, encoder).add_each("t", documents)
    assert (report.num_upserted, report.num_unchanged) == (2, 3)
    assert (len(encoder.texts), encoder.num_images) == (2, 2)
    assert store.get("t", "3").images == [_png(200)]
    report = await _ingestor(store, encoder, PassageConfig(max_tokens=50)).add("t", documents)
    assert report.num_upserted == 5
    report = await _ingestor(store, encoder).add("other tenant", documents)
    assert report.num_upserted == 5


def _documents():
    return [Document(str(i), f"title {i}", "Some text. " * 30, [_png(i % 256, i // 256)]) for i in range(300)]


def _ingest(path, progress):
    store = SqliteStore(path)

    def report(done):
        progress.value = done.num_upserted
        time.sleep(0.05)

    asyncio.run(_ingestor(store, LetterEncoder()).add_each("t", iter(_documents()), report))


async def test_an_ingest_killed_halfway_resumes(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    progress = spawn.Value("i", 0)
    process = spawn.Process(target=_ingest, args=(tmp_path / "k.sqlite", progress))
    process.start()
    give_up_at = time.monotonic() + 60
    while progress.value < 60 and time.monotonic() < give_up_at:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    store = SqliteStore(tmp_path / "k.sqlite")
    num_done = store.count("t")
    assert 60 <= num_done < 300
    encoder = LetterEncoder()
    report = await _ingestor(store, encoder).add_each("t", iter(_documents()))
    assert (report.num_unchanged, report.num_upserted) == (num_done, 300 - num_done)
    assert encoder.num_images == 300 - num_done
    assert [store.get("t", document.id) for document in _documents()] == _documents()
    (found,) = store.candidates([SearchRequest(image_embedding=np.eye(26, dtype=np.float32)[0], tenant="t")], 1_000)
    assert len(found["image_image"]) == 300
    store.close()
