"""Over HTTP, with parts that obey the test: an answer streamed as it is written; readiness that tells what is wrong."""

import asyncio
import json
import threading

import httpx
import pytest
from fakes import EchoDecoder, ImageEmbedder, Searcher, TextEmbedder

from deployments import event_stream
from deployments.http_api import create_app
from mmrag.cache import EmbeddingCache
from mmrag.config import AppConfig, TextEncoderConfig
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.errors import Unavailable
from mmrag.knowledge.passages import Splitter
from mmrag.pipeline import Pipeline
from mmrag.types import Answer, Passage
from tests.conftest import all_well, serving

PASSAGE = Passage(id="country-pe#0", document_id="country-pe", title="Peru", text="The capital is Lima.")


class Haltable(EchoDecoder):
    """Waits after the first word until it is told to go on; then goes on, or breaks."""

    def __init__(self, error: Exception | None = None):
        super().__init__()
        self.go_on = threading.Event()
        self.error = error

    async def stream(self, request):
        async for piece in super().stream(request):
            yield piece
            while not self.go_on.is_set():
                await asyncio.sleep(0.005)
            if self.error:
                raise self.error


def app_over(decoder, states=all_well):
    parts = {
        "text_encoder": TextEmbedder("text"),
        "image_encoder": ImageEmbedder("image"),
        "retriever": Searcher([PASSAGE]),
        "decoder": decoder,
    }
    splitter = Splitter(load_tokenizer(TextEncoderConfig()))
    return create_app(Pipeline(**parts, splitter=splitter, cache=EmbeddingCache(10)), states, AppConfig())


def events(decoder) -> list[tuple[str, dict]]:
    """All events; the decoder goes on when the first has arrived."""
    found, name = [], ""
    body = {"text": "capital of Peru?", "stream": True}
    with serving(app_over(decoder)) as url, httpx.stream("POST", f"{url}/v1/answer", json=body) as response:
        for line in response.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                found.append((name, json.loads(value)))
                decoder.go_on.set()
    return found


def test_each_piece_arrives_while_the_rest_is_still_unwritten():
    *tokens, (last, answer) = events(Haltable())
    assert [data["text"] for name, data in tokens if name == "token"] == ["The ", "capital ", "is ", "Lima. "]
    assert last == "answer" and answer["answer"] == "The capital is Lima."
    assert answer["passages"][0]["document_id"] == "country-pe"


def test_an_answer_that_breaks_off_ends_with_its_error():
    *tokens, (last, body) = events(Haltable(Unavailable("the decoder is gone")))
    assert [data["text"] for _, data in tokens] == ["The "]
    assert last == "error" and body["error"]["type"] == "unavailable"


@pytest.mark.parametrize("num_read", [0, 1, 2, 3])
async def test_a_stream_that_is_not_read_is_left(monkeypatch, num_read):
    monkeypatch.setattr(event_stream, "MAX_SEND_S", 0.05)
    read, is_closed = [], asyncio.Event()

    async def pieces():
        try:
            yield "Lima"
            yield Answer("ans-1", "Lima", [])
        finally:
            is_closed.set()

    async def send(message):
        if len(read) == num_read:
            await asyncio.sleep(1_000)
        read.append(message)

    async with asyncio.timeout(5):
        stream = await event_stream.EventStream.start(pieces())
        await stream({}, None, send)
    assert is_closed.is_set() and len(read) == num_read


@pytest.mark.parametrize(("state", "status"), [("ok", 200), ("does not answer", 503)])
def test_readiness_names_the_component_that_does_not_answer(state, status):
    async def states() -> dict[str, str]:
        return {"text_encoder": "ok", "decoder": state}

    with serving(app_over(EchoDecoder(), states)) as url:
        response = httpx.get(f"{url}/readyz")
        alive = httpx.get(f"{url}/healthz")
    assert response.status_code == status
    assert response.json() == {"ready": status == 200, "components": {"text_encoder": "ok", "decoder": state}}
    assert alive.status_code == 200
