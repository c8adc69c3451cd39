"""An answer is made of whole words of the evidence, whatever the model likes best at each step."""

import pytest
import torch
from decoder.small import byte_tokenizer, passage, request, small_decoder

from mmrag.decoder.whole_words import WholeWords, whole_words
from mmrag.types import Sampling

START = -7


@pytest.fixture(scope="module")
def words_of():
    tokenizer = byte_tokenizer()

    def words_of(*texts: str) -> tuple[WholeWords, dict[str, int]]:
        encodings = [tokenizer.encode(text) for text in texts]
        return whole_words(encodings, START), tokenizer.get_vocab()

    return words_of


def test_a_word_is_neither_left_nor_entered_in_its_middle(words_of):
    words, ids = words_of(" abc de")
    assert words.allow(ids["b"], ids["a"])
    assert not words.allow(ids["Ġ"], ids["a"])  # " a" alone is no word here
    assert not words.allow(ids["c"], ids["a"])
    assert words.allow(ids["Ġ"], ids["c"])
    assert not words.allow(ids["b"], START)
    assert words.allow(ids["Ġ"], START)


def test_a_piece_that_also_ends_a_word_may_end_the_answer(words_of):
    words, ids = words_of(" ab abc", "")
    assert words.allow(ids["</s>"], ids["b"]) and words.allow(ids["c"], ids["b"])
    assert not words.allow(ids["</s>"], ids["a"])


def test_words_that_no_passage_has_are_not_judged(words_of):
    words, ids = words_of(" abc")
    assert words.allow(ids["y"], ids["x"]) and words.allow(ids["b"], ids["x"])
    assert WholeWords().allow(ids["b"], START)


def test_fitting_leaves_just_what_is_allowed(words_of):
    words, ids = words_of(" abc abd", "zebra cd")
    for last in (START, *range(len(ids))):
        left = words.fitting(torch.zeros(len(ids)), last).isfinite().tolist()
        assert left == [words.allow(token, last) for token in range(len(ids))]


@pytest.mark.parametrize("temperature", [0.0, 3.0])
def test_a_decoder_that_copies_at_random_copies_whole_words(temperature):
    decoder = small_decoder()
    decoder.model.pointer.share.bias.data.fill_(30.0)
    passages = [passage("stu", "abc def", 1), passage("vwx", "ghi jkl", 2)]
    sampling = [Sampling(temperature=temperature, top_k=6, seed=seed) for seed in range(20)]
    asked = [request("?", passages=passages, sampling=how, max_new_tokens=40) for how in sampling]
    written = [decoded.text for decoded in decoder.decode(asked)]
    known = {"abc", "def", "ghi", "jkl", "stu", "vwx"}
    assert all(set(text.split()[:-1]) <= known for text in written), written
    assert sum(len(text.split()) for text in written) > 60
