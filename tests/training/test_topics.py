"""Topics are taught at the tokens that tell them, and what is learned there helps to find the answer."""

from dataclasses import replace

import torch
from decoder.small import request, small_decoder

from mmrag.training.data import Example
from mmrag.training.topics import IGNORED, NOTHING, TopicClassifier

TOLD = [{"capital": "Lima"}, {"capital": "Quito", "currency": "dollar", "unheard": "and"}, {}]


def example(**changes) -> Example:
    return replace(Example(request(), "Quito", 1, topic="capital", told=TOLD), **changes)


def told(decoder, classifier, *examples: Example) -> list[dict[int, str]]:
    """For each example the text that is marked with each topic."""
    batch = decoder.inputs.build([example.request for example in examples])
    marks = classifier.told(batch, list(examples))
    topics = {int(mark) for mark in marks.unique()} - {IGNORED, NOTHING}
    return [{t: decoder.tokenizer.decode(ids[row == t].tolist()) for t in topics if (row == t).any()}
            for ids, row in zip(batch.source_ids, marks, strict=True)]  # fmt: skip


def test_the_values_told_are_marked_where_they_stand():
    decoder, classifier = small_decoder(), TopicClassifier(("capital", "currency"), 32)
    assert told(decoder, classifier, example()) == [{1: "LimaQuito", 2: "dollar"}]


def test_what_stands_twice_or_inside_a_word_is_not_marked():
    decoder, classifier = small_decoder(), TopicClassifier(("a", "b"), 32)
    twice, inside = example(told=[{}, {"a": "the"}]), example(told=[{"b": "cap"}])
    assert told(decoder, classifier, twice, inside) == [{}, {}]


def test_what_is_not_read_of_a_long_passage_is_not_marked():
    decoder, classifier = small_decoder(), TopicClassifier(("a",), 32)
    one = example(told=[{"a": "Quito"}])
    one.request.passages[0].text = "and " * 3_000 + "Quito"
    assert told(decoder, classifier, one) == [{}]


def test_other_passages_do_not_shift_the_marks():
    decoder, classifier = small_decoder(), TopicClassifier(("capital", "currency"), 32)
    other = example(request=request(num_passages=1), told=TOLD[:1])
    found = told(decoder, classifier, other, example(told=[{}, TOLD[1], {}]))
    assert found == [{1: "Lima"}, {1: "Quito", 2: "dollar"}]


def test_only_marked_and_copyable_tokens_count():
    decoder, classifier = small_decoder(), TopicClassifier(("capital",), 32)
    batch = decoder.inputs.build([example().request])
    marks = classifier.told(batch, [example(told=[])])
    assert torch.equal(marks == NOTHING, batch.copyable) and set(marks.unique().tolist()) == {IGNORED, NOTHING}


def test_the_loss_falls_where_states_tell_the_topics():
    decoder, classifier = small_decoder(), TopicClassifier(("capital", "currency"), 32)
    batch = decoder.inputs.build([example().request])
    classifier.output.weight.data.zero_(), classifier.output.bias.data.zero_()
    classifier.output.weight.data[:, :3] = torch.eye(3)
    marks = classifier.told(batch, [example()])
    right = torch.zeros(*marks.shape, 32).scatter_(2, marks.clamp(min=0)[..., None], 9.0)
    asked = torch.zeros(1, 32)
    asked[0, 1] = 9.0
    assert classifier.loss(right, asked, batch, [example()]) < 0.01
    assert classifier.loss(right, asked.roll(1, 1), batch, [example()]) > 5
    assert classifier.loss(right.roll(1, 2), asked, batch, [example()]) > 5
    unasked = classifier.loss(right, asked.roll(1, 1), batch, [example(topic="")])
    assert unasked < 0.01
