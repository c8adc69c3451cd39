"""FusionDecoder: batches, streams, missing evidence, labels, attribution, checkpoints."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from decoder.small import DIMENSION, GRID, passage, request, small_decoder, vector

from mmrag.decoder import FusionDecoder
from mmrag.decoder.heads import Copying, copied_probabilities
from mmrag.decoder.model import FusionModel, State
from mmrag.errors import ConfigurationError, InvalidRequest


@pytest.fixture(params=["dual_stream dot", "dual_stream scaled_dot", "cross_modal dot", "cross_modal scaled_dot"])
def decoder(request) -> FusionDecoder:
    fusion, scores = request.param.split()
    return small_decoder(fusion=fusion, scores=scores)


def mixed_requests():
    alone = request("what?", 0, image_embedding=None, image_grid=None)
    picture = request(None, 5, text_embedding=None, max_new_tokens=5)
    return [request(), alone, picture, request("a much longer question about the capital of it all", 1, task="caption")]


def next_probabilities(model: FusionModel, written: int, state: State) -> torch.Tensor:
    """[V], after one more token."""
    ids = torch.tensor([[written]])
    hidden = model.step(ids, state)
    copying = model.copy(hidden, ids, state)
    generated = model.logits(hidden).softmax(-1)[0, 0] * (1 - copying.share[0, 0])
    everything = torch.arange(model.config.vocab_size)[None]
    looks = Copying(copying.attention.expand(-1, everything.shape[1], -1), copying.share)
    copied = copied_probabilities(looks, state.source.ids, everything)
    return generated + copying.share[0, 0] * copied[0]


def test_a_batch_equals_one_at_a_time(decoder):
    together = decoder.decode(mixed_requests())
    assert [answer.text for answer in together] == [decoder.decode([one])[0].text for one in mixed_requests()]
    assert len({answer.text for answer in together}) > 1


def test_the_stream_adds_up_to_the_answer(decoder):
    *pieces, last = decoder.stream(request())
    assert "".join(pieces) == last.text == decoder.decode([request()])[0].text


def test_length_ends_an_answer(decoder):
    answer = decoder.decode([request(max_new_tokens=3)])[0]
    assert answer.num_tokens <= 3
    assert answer.finish_reason == "length" or answer.num_tokens < 3


def test_evidence_matters_and_missing_evidence_is_masked(decoder):
    def score(asked):
        batch = decoder.inputs.build([asked])
        with torch.inference_mode():
            state = decoder.model.begin(decoder.model.encode(batch), batch)
            return next_probabilities(decoder.model, 0, state)

    full = score(request())
    assert not torch.allclose(full, score(request(image_grid=None)))
    assert not torch.allclose(full, score(request(image_embedding=vector(99))))
    assert not torch.allclose(full, score(request(text_embedding=None)))
    zeros = np.zeros(GRID, np.float16)
    assert not torch.allclose(score(request(image_grid=zeros)), score(request(image_grid=None)))


def test_a_question_is_read_from_its_states_where_the_model_wants_them():
    decoder = small_decoder(question_model="any", question_layers=[2, 4], question_in_decoder=True)
    assert decoder.model.config.question_dimension == 2 * DIMENSION

    def written(**changes) -> torch.Tensor:
        batch = decoder.inputs.build([request(**changes)])
        with torch.inference_mode():
            state = decoder.model.begin(decoder.model.encode(batch), batch)
            return next_probabilities(decoder.model, 0, state)

    other = np.stack([vector(10), vector(12)])
    assert not torch.allclose(written(), written(question_states=other))
    missing, zeros = written(question_states=None), written(question_states=np.zeros((2, DIMENSION)))
    assert not torch.allclose(written(), missing) and not torch.allclose(missing, zeros)
    with pytest.raises(ConfigurationError, match="trained with 32"):
        decoder.inputs.build([request(question_states=np.stack([vector(10)]))])


def test_a_question_model_and_its_layers_go_together():
    for changes in (dict(question_model="any"), dict(question_layers=[2])):
        with pytest.raises(ConfigurationError, match="or neither"):
            small_decoder(**changes)


def test_similarities_reach_the_model(decoder):
    changed = request()
    changed.passages[1].similarities["bm25"] = 1.0
    before, after = (decoder.inputs.build([asked]).chunks[0].features for asked in (request(), changed))
    assert before.ne(after).any()


def test_given_labels_share_all_probability(decoder):
    asked = request(task="classify", labels=["fruit", "vehicle", "Zürich"])
    answer = decoder.decode([asked, request(task="classify")])[0]
    assert {label.label for label in answer.labels} == {"fruit", "vehicle", "Zürich"}
    assert sum(label.score for label in answer.labels) == pytest.approx(1, abs=1e-5)
    assert answer.text == answer.labels[0].label
    assert answer.labels == sorted(answer.labels, key=lambda label: -label.score)


def test_a_label_scores_the_same_in_any_company():
    decoder, names = small_decoder(), ["sea", "Zürich", "a longer name", "b", "cc", "d"]
    asked = [request(task="classify", labels=names), request("who?", 1, task="classify", labels=names[::-1])]
    together = decoder.decode(asked)
    for one, answer in zip(asked, together, strict=True):
        alone = {label.label: label.score for label in decoder.decode([one])[0].labels}
        assert {label.label: label.score for label in answer.labels} == pytest.approx(alone, abs=1e-5)


def test_trained_labels_are_scored_by_their_head():
    decoder = small_decoder()
    asked = [request(task="classify"), request("who?", 1, task="classify")]
    before, other = decoder.decode(asked)
    assert {label.label for label in before.labels} == {"Asia", "Europe"}
    assert sum(label.score for label in before.labels) == pytest.approx(1, abs=1e-5)
    assert before.labels != other.labels  # it looks at the request
    decoder.model.labels.output.bias += torch.tensor([20.0, 0.0])
    assert [answer.text for answer in decoder.decode(asked)] == ["Asia", "Asia"]
    given = replace(asked[0], labels=["Asia", "Europe"])
    assert decoder.decode([given])[0].labels == small_decoder().decode([given])[0].labels  # the head has no part


def test_a_model_without_labels_asks_for_some():
    with pytest.raises(InvalidRequest, match="labels"):
        small_decoder(labels=[]).decode([request(task="classify")])


def test_given_labels_are_as_likely_as_writing_them():
    decoder, names = small_decoder(), ["sea", "Zürich", "b"]
    scores = {label.label: label.score for label in decoder.decode([request(task="classify", labels=names)])[0].labels}
    likelihoods = torch.tensor([likelihood(decoder, request(task="classify", labels=names), name) for name in names])
    assert scores == pytest.approx(dict(zip(names, likelihoods.softmax(0).tolist(), strict=True)), abs=1e-5)


@torch.inference_mode()
def likelihood(decoder: FusionDecoder, asked, label: str) -> float:
    """The log-probability of writing the label and then ending, token by token, as generation would."""
    batch = decoder.inputs.build([asked])
    state = decoder.model.begin(decoder.model.encode(batch), batch)
    written, total = decoder.model.config.start_id, 0.0
    for token in [*decoder.tokenizer.encode(" " + label).ids, decoder.model.config.end_id]:
        total += float(next_probabilities(decoder.model, written, state)[token].log())
        written = token
    return total


def test_attribution_only_when_asked_for(decoder):
    plain, explained = decoder.decode([request(), request(explain=True)])
    assert plain.attribution is None
    assert plain.text == explained.text
    shares = explained.attribution.passages
    assert list(shares) == ["p0#0", "p1#0", "p2#0"]
    assert 0 <= sum(shares.values()) <= 1.001
    assert len(explained.attribution.tokens) == explained.num_tokens
    assert len(explained.attribution.regions) == explained.num_tokens
    assert sum(explained.attribution.regions[0]) == pytest.approx(1, abs=0.01)


def test_attributed_words_lie_in_the_passage():
    decoder = small_decoder()
    with torch.no_grad():
        decoder.model.pointer.share.bias.fill_(20.0)  # copy only
    answer = decoder.decode([request(explain=True)])[0]
    assert sum(answer.attribution.passages.values()) == pytest.approx(1, abs=0.01)
    fields = {p.id: {"title": p.title, "text": p.text} for p in request().passages}
    for token in answer.attribution.tokens:
        word = token["words"][0]
        best = word["passage"]
        assert best in token["passages"]
        copied = fields[best][word["field"]].encode()
        assert token["token"].strip().encode() in copied or "\ufffd" in token["token"]
        assert fields[best][word["field"]][word["start"] : word["end"]].strip() in (token["token"].strip(), "á")


@pytest.mark.parametrize("sentence_pooling", [False, True])
def test_passages_are_independent_so_order_matters_little_to_the_encoder(sentence_pooling):
    decoder = small_decoder(sentence_pooling=sentence_pooling)
    alone = decoder.inputs.build([request(num_passages=1)])
    several = decoder.inputs.build([request(num_passages=1), request(num_passages=5)])
    with torch.inference_mode():
        first, second = decoder.model.encode(alone), decoder.model.encode(several)
    length = int(alone.source_mask.sum())
    torch.testing.assert_close(first.text[0, :length], second.text[0, :length], rtol=1e-4, atol=1e-5)


def test_closed_gates_leave_the_plain_model_unchanged():
    decoder = small_decoder(convolution_width=0)
    for name, parameter in decoder.model.named_parameters():
        if name.endswith("gate"):
            parameter.zero_()
    plain = FusionDecoder(deepcopy(decoder.model), decoder.tokenizer)
    asked = request()
    bare = [replace(p, similarities={}, text_embedding=None, image_embedding=None) for p in asked.passages]
    stripped = replace(asked, text_embedding=None, image_embedding=None, image_grid=None, passages=bare)
    assert decoder.decode([asked])[0].text == plain.decode([stripped])[0].text


@pytest.mark.parametrize("fusion", ["dual_stream", "cross_modal"])
def test_a_saved_decoder_answers_the_same(fusion, tmp_path):
    decoder = small_decoder(fusion=fusion)
    decoder.model.half().float()
    decoder.save(tmp_path)
    loaded = FusionDecoder.load(str(tmp_path))
    assert [a.text for a in loaded.decode(mixed_requests())] == [a.text for a in decoder.decode(mixed_requests())]
    assert loaded.fingerprint == decoder.fingerprint != ""


def test_long_passages_are_cut():
    decoder = small_decoder()
    decoder.inputs.prompts.max_tokens = 40
    asked = request(num_passages=0)
    asked.passages = [passage("long", "word " * 500, 1)]
    assert decoder.inputs.build([asked]).source_ids.shape[1] == 40
    assert decoder.decode([asked])[0].num_tokens <= 12


def test_clear_errors_for_what_cannot_be_used(tmp_path):
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        FusionDecoder.load(str(tmp_path))
    with pytest.raises(ConfigurationError, match="16"):
        small_decoder().decode([request(text_embedding=np.ones(5, np.float32))])
