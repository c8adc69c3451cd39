import asyncio
import io
import time

import numpy as np
import pytest
from fakes import EchoDecoder, ImageEmbedder, Searcher, TextEmbedder
from PIL import Image

from mmrag.cache import EmbeddingCache
from mmrag.config import Limits, TextEncoderConfig
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.errors import DeadlineExceeded, InvalidRequest, TooLarge, Unavailable, UnsupportedMedia
from mmrag.knowledge.passages import Splitter
from mmrag.pipeline import Pipeline
from mmrag.types import Answer, Document, Passage, Query

PASSAGE = Passage(id="country-pe#0", document_id="country-pe", title="Peru", text="The capital is Lima.")


class Parts:
    def __init__(self):
        self.text_encoder = TextEmbedder("text-model")
        self.image_encoder = ImageEmbedder("image-model")
        self.retriever = Searcher([PASSAGE])
        self.decoder = EchoDecoder()

    def pipeline(self, requires_evidence: bool = False, **limits) -> Pipeline:
        return Pipeline(
            **vars(self),
            splitter=Splitter(load_tokenizer(TextEncoderConfig())),
            cache=EmbeddingCache(100),
            limits=Limits(**limits),
            requires_evidence=requires_evidence,
        )


@pytest.fixture
def parts() -> Parts:
    return Parts()


def picture(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


async def test_the_decoder_reads_the_query_and_what_was_retrieved(parts):
    query = Query(text="capital of Peru?", image=picture(), filters={"continent": "Asia"}, tenant="a", top_k=3)
    answer = await parts.pipeline().answer(query)
    assert answer.answer == "The capital is Lima." and answer.passages == [PASSAGE] and answer.degraded == []
    [search], [decode] = parts.retriever.requests, parts.decoder.requests
    assert (search.text, search.filters, search.tenant, search.top_k) == (query.text, query.filters, "a", 3)
    np.testing.assert_allclose(np.linalg.norm(search.text_embedding), 1, atol=1e-6)
    np.testing.assert_array_equal(search.image_embedding, decode.image_embedding)
    assert decode.passages == [PASSAGE] and decode.image_grid.shape == (4, 3)
    assert {"text_encoder", "image_encoder", "retriever", "decode", "total"} <= answer.timings_ms.keys()


@pytest.mark.parametrize(("asked", "allowed", "given"), [(None, 256, 64), (None, 32, 32), (200, 256, 200)])
async def test_how_long_an_answer_may_be(parts, asked, allowed, given):
    pipeline = parts.pipeline(max_new_tokens=allowed)
    await pipeline.answer(Query(text="a", max_new_tokens=asked))
    async for _ in pipeline.stream(Query(text="a", max_new_tokens=asked)):
        pass
    assert [request.max_new_tokens for request in parts.decoder.requests] == [given, given]


async def test_text_and_image_are_embedded_at_the_same_time(parts):
    both_started = asyncio.Barrier(2)
    for encoder in (parts.text_encoder, parts.image_encoder):
        encoder._work = lambda inputs: both_started.wait()
    answer = await parts.pipeline(timeout_s=10).answer(Query(text="a", image=picture()))
    assert answer.answer == "The capital is Lima."


async def test_a_repeated_query_skips_the_encoders(parts):
    pipeline = parts.pipeline()
    for _ in range(3):
        await pipeline.answer(Query(text="a", image=picture()))
    assert len(parts.text_encoder.asked) == len(parts.image_encoder.asked) == 1


async def test_streaming_gives_pieces_then_the_same_answer(parts):
    pieces = [piece async for piece in parts.pipeline().stream(Query(text="capital of Peru?"))]
    assert "".join(pieces[:-1]).strip() == "The capital is Lima."
    assert isinstance(pieces[-1], Answer) and pieces[-1].answer == "The capital is Lima."


@pytest.mark.parametrize("part", ["text_encoder", "image_encoder", "retriever"])
async def test_a_part_that_is_down_degrades_the_answer_and_is_named(parts, part):
    getattr(parts, part).down = True
    answer = await parts.pipeline().answer(Query(text="a", image=picture()))
    assert [note.split(":")[0] for note in answer.degraded] == [part]
    assert answer.answer == ("unknown" if part == "retriever" else "The capital is Lima.")


async def test_a_branch_of_the_search_that_is_missing_is_named(parts):
    parts.retriever.degraded = ["bm25: this branch of the search does not answer"]
    answer = await parts.pipeline().answer(Query(text="capital of Peru?"))
    assert answer.passages == [PASSAGE]
    assert answer.degraded == ["retriever: bm25: this branch of the search does not answer"]


async def test_where_evidence_is_required_there_is_no_answer_without_it(parts):
    parts.retriever.down = True
    pipeline = parts.pipeline(requires_evidence=True)
    for ask in (pipeline.answer, pipeline.search):
        with pytest.raises(Unavailable, match="the index is closed"):
            await ask(Query(text="capital of Peru?"))


async def test_an_image_alone_needs_its_encoder(parts):
    parts.image_encoder.down = True
    with pytest.raises(Unavailable, match="image encoder"):
        await parts.pipeline().answer(Query(image=picture()))


async def test_bad_queries_are_refused_before_any_work(parts):
    pipeline = parts.pipeline(max_text_chars=10)
    for query, error in [
        (Query(), InvalidRequest),
        (Query(text="x" * 11), TooLarge),
        (Query(text="a", top_k=0), InvalidRequest),
    ]:
        with pytest.raises(error):
            await pipeline.answer(query)
    assert parts.text_encoder.asked == []
    with pytest.raises(UnsupportedMedia):
        await pipeline.answer(Query(text="a", image=b"<svg/>"))


async def test_a_deadline_ends_the_work(parts):
    parts.text_encoder.delay_s = 5
    with pytest.raises(DeadlineExceeded):
        await parts.pipeline(timeout_s=0.05).answer(Query(text="a"))
    await asyncio.sleep(0.01)
    assert parts.text_encoder.num_cancelled == 1


async def test_the_deadline_reaches_the_decoder(parts):
    deadline_s = time.time() + 7
    await parts.pipeline(timeout_s=60).answer(Query(text="a", deadline_s=deadline_s))
    [_ async for _ in parts.pipeline(timeout_s=60).stream(Query(text="a", deadline_s=deadline_s))]
    assert [request.deadline_s for request in parts.decoder.requests] == [deadline_s, deadline_s]


async def test_embedding_and_writing_have_deadlines_too(parts):
    async def slow(tenant, document_ids):
        await asyncio.sleep(5)
        return {}

    parts.text_encoder.delay_s = 5
    parts.retriever.content_hashes = slow
    pipeline = parts.pipeline(timeout_s=0.05)
    with pytest.raises(DeadlineExceeded):
        await pipeline.embed(["a"])
    with pytest.raises(DeadlineExceeded):
        await pipeline.upsert("a", [Document(id="a", text="a")])


async def test_a_query_can_be_asked_again(parts):
    query, pipeline = Query(text="a"), parts.pipeline(timeout_s=0.2)
    for _ in range(2):
        await pipeline.answer(query)
        await asyncio.sleep(0.15)
    assert query == Query(text="a")
    assert parts.decoder.requests[0].deadline_s < parts.decoder.requests[1].deadline_s


async def test_a_stream_that_breaks_off_is_no_answer(parts):
    async def broken_off(request):
        yield "The"

    parts.decoder.stream = broken_off
    with pytest.raises(Unavailable, match="decoder"):
        [piece async for piece in parts.pipeline().stream(Query(text="a"))]


async def test_work_stops_when_the_caller_leaves(parts):
    parts.text_encoder.delay_s = 5
    caller = asyncio.create_task(parts.pipeline().answer(Query(text="a", image=picture())))
    await asyncio.sleep(0.02)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert parts.text_encoder.num_cancelled == 1 and parts.decoder.requests == []


async def test_texts_and_images_are_embedded_in_the_order_given(parts):
    embeddings = await parts.pipeline().embed(["abc", picture("blue"), "h"])
    assert embeddings.shape == (3, 8)
    [text_c, text_h] = await TextEmbedder("x").embed(["abc", "h"])
    np.testing.assert_array_equal(embeddings[[0, 2]], [text_c, text_h])
    assert embeddings[1][2] > 0.9


async def test_when_some_cannot_be_embedded_the_others_are_not_computed_in_vain(parts):
    parts.text_encoder.delay_s = 5
    with pytest.raises(UnsupportedMedia):
        await parts.pipeline().embed(["abc", b"no picture"])
    await asyncio.sleep(0.01)
    assert parts.text_encoder.num_cancelled == 1


async def test_many_images_are_decoded_a_group_at_a_time(parts):
    colours = [f"rgb({i}, {2 * i}, {3 * i})" for i in range(1, 71)]
    embeddings = await parts.pipeline().embed([picture(colour) for colour in colours])
    assert [len(group) for group in parts.image_encoder.asked] == [32, 32, 6]
    norms = [(i, 2 * i, 3 * i) / np.sqrt(14 * i**2 + 1) for i in range(1, 71)]
    np.testing.assert_allclose(embeddings[:, :3], norms, atol=1e-5)
