"""What the configuration of a component says is what happens."""

import pytest
import torch

from mmrag.components import AnswerDecoder, ImageEmbedder
from mmrag.config import DecoderConfig, ImageEncoderConfig
from mmrag.types import Decoded, DecodeRequest, Passage


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
    ImageEmbedder(ImageEncoderConfig(model=str(models / "image_encoder"), num_threads=threads + 1))
    assert torch.get_num_threads() == threads + 1
