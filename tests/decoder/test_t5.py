"""A plain T5 checkpoint answers as it does in Hugging Face, token for token."""

import pytest
import torch
from decoder.t5 import save_t5
from transformers import T5ForConditionalGeneration

from mmrag.config import DecoderConfig
from mmrag.decoder import FusionDecoder
from mmrag.decoder.engine import Engine
from mmrag.errors import InvalidRequest
from mmrag.types import DecodeRequest

TEXTS = [
    "translate to German: the house is small",
    "hello",
    "summarize: a long text about many things that goes on and on, well beyond the bucket of exact distances " * 4,
    "what is this?",
]
SHAPES = {
    "v1.0 relu tied": dict(feed_forward_proj="relu", d_model=32, d_kv=8, num_heads=4, num_layers=2),
    "v1.1 gated untied": dict(feed_forward_proj="gated-gelu", d_model=48, d_kv=16, num_heads=2, num_layers=3,
                              num_decoder_layers=1, tie_word_embeddings=False),
    "wide inner": dict(feed_forward_proj="relu", d_model=24, d_kv=16, num_heads=6, num_layers=3,
                       num_decoder_layers=2, relative_attention_num_buckets=16, relative_attention_max_distance=40),
}


@pytest.fixture(params=SHAPES, scope="module")
def checkpoint(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("t5")
    save_t5(directory, TEXTS, **SHAPES[request.param])
    return directory


def hugging_face_tokens(directory, tokenizer, texts, max_new_tokens):
    model = T5ForConditionalGeneration.from_pretrained(directory).eval()
    ids = [[*tokenizer.encode(text, add_special_tokens=False).ids, 1] for text in texts]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    written = model.generate(padded, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)
    rows = [row[1:].tolist() for row in written]
    return [row[: row.index(1)] if 1 in row else row for row in rows]


def request(text, max_new_tokens=24):
    return DecodeRequest(text, None, None, None, [], max_new_tokens=max_new_tokens)


def test_batch_of_unequal_lengths_equals_hugging_face(checkpoint):
    decoder = FusionDecoder.load(str(checkpoint))
    expected = hugging_face_tokens(checkpoint, decoder.tokenizer, TEXTS, 24)
    decoded = decoder.decode([request(text) for text in TEXTS])
    texts = [decoder.tokenizer.decode(row, skip_special_tokens=True).strip() for row in expected]
    assert [answer.text for answer in decoded] == texts
    assert [answer.num_tokens for answer in decoded] == list(map(len, expected))
    assert len(set(texts)) > 1


def test_packed_weights_and_newcomers_in_between_equal_hugging_face(checkpoint):
    engine = Engine.load(DecoderConfig(model=str(checkpoint), max_batch=3, prefill_tokens=1))
    expected = hugging_face_tokens(checkpoint, engine.tokenizer, TEXTS, 24)
    jobs = []
    for text in TEXTS:
        jobs.append(engine.submit(engine.prepare(request(text))))
        for _ in range(4):
            engine.step()
    while engine.step():
        pass
    assert [job.output.tokens for job in jobs] == expected


def test_a_question_that_is_too_long_is_refused_before_it_is_read(checkpoint):
    engine = Engine.load(DecoderConfig(model=str(checkpoint), max_passages=2, max_passage_tokens=30))
    engine.prepare(request("hello " * 8))
    with pytest.raises(InvalidRequest, match="at most 60 are read"):
        engine.prepare(request("hello " * 300))


def test_one_at_a_time_equals_the_batch(checkpoint):
    decoder = FusionDecoder.load(str(checkpoint))
    together = [answer.text for answer in decoder.decode([request(text) for text in TEXTS])]
    assert [decoder.decode([request(text)])[0].text for text in TEXTS] == together


def test_logits_equal_hugging_face(checkpoint):
    decoder = FusionDecoder.load(str(checkpoint))
    reference = T5ForConditionalGeneration.from_pretrained(checkpoint).eval()
    batch = decoder.inputs.build([request(TEXTS[2])])
    given = torch.tensor([[0, 5, 9, 30, 7, 44]])
    with torch.inference_mode():
        state = decoder.model.begin(decoder.model.encode(batch), batch)
        logits = decoder.model.logits(decoder.model.step(given, state))
        expected = reference(input_ids=batch.source_ids, decoder_input_ids=given).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
