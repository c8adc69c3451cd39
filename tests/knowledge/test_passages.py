import re
from itertools import pairwise
from types import SimpleNamespace

import pytest

from mmrag.config import PassageConfig
from mmrag.knowledge.passages import Splitter


class WordTokenizer:
    """A token for each word, for each sign, and for each Chinese or Japanese character."""

    def encode(self, text, *, add_special_tokens):
        assert not add_special_tokens
        return SimpleNamespace(offsets=[m.span() for m in re.finditer(r"[぀-ヿ一-鿿]|[^\W぀-ヿ一-鿿]+|[^\w\s]", text)])


def _split(text, max_tokens=20, overlap_tokens=6):
    config = PassageConfig(max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    return [text[span.start : span.end] for span in Splitter(WordTokenizer(), config).split(text)]


def _num_tokens(text):
    return len(WordTokenizer().encode(text, add_special_tokens=False).offsets)


TEXTS = {
    "prose": "One small cat sat here. Was it a cat? It was! " * 30,
    "chinese": "猫坐在垫子上。狗在外面跑。" * 30,
    "japanese without stops": "ねこがいる" * 60,
    "no stops": "word " * 200,
    "one word": "x" * 5_000,
    "lines": "first line\nsecond line\n\n\nthird\n" * 30,
    "mixed": "A. B! " + "long " * 50 + "end. 猫。" + "\u2028\t weird \u00a0 space " * 20,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(("max_tokens", "overlap_tokens"), [(16, 0), (20, 6), (40, 39)])
def test_passages_cover_the_text_in_order_within_the_limit(text, max_tokens, overlap_tokens):
    config = PassageConfig(max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    spans = Splitter(WordTokenizer(), config).split(text)
    covered = set()
    for span in spans:
        assert _num_tokens(text[span.start : span.end]) <= max_tokens
        assert text[span.start : span.end].strip() == text[span.start : span.end]
        covered.update(range(span.start, span.end))
    assert all(i in covered for i, character in enumerate(text) if not character.isspace())
    assert [span.start for span in spans] == sorted({span.start for span in spans})
    assert [span.end for span in spans] == sorted({span.end for span in spans})
    for left, right in pairwise(spans):
        assert _num_tokens(text[right.start : left.end]) <= overlap_tokens


def test_passages_end_and_begin_with_sentences_and_overlap():
    passages = _split("One small cat sat here. Was it a cat? It was! " * 5)
    assert passages[0] == "One small cat sat here. Was it a cat? It was! One small cat sat here."
    assert passages[1].startswith("One small cat sat here. Was it a cat?")
    assert all(passage[0] in "OWI" and passage[-1] in ".?!" for passage in passages)


@pytest.mark.parametrize(
    "sentence",
    ["It was J. Smith of the U.S. Army who paid 3.50 for it, e.g. yesterday.", 'He said: "Stop!" and left… so he did.'],
)
def test_signs_inside_a_sentence_do_not_end_it(sentence):
    passages = _split(f"{sentence} " * 4, max_tokens=26, overlap_tokens=0)
    assert passages == [sentence] * 4


def test_an_overlong_sentence_is_cut_between_words():
    words = [f"word{i}" for i in range(100)]
    assert " ".join(_split(" ".join(words), overlap_tokens=0)) == " ".join(words)


def test_a_short_text_is_one_passage_and_an_empty_one_none():
    assert _split("  A cat. \n") == ["A cat."]
    assert _split(" \n\t ") == _split("") == []


def test_padding_and_truncation_of_the_tokenizer_do_not_matter():
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(8)
    text = " ".join(f"word{i}" for i in range(100))
    spans = Splitter(tokenizer, PassageConfig(max_tokens=30, overlap_tokens=0)).split(text)
    assert [text[span.start : span.end].count("word") for span in spans] == [30, 30, 30, 10]
    assert tokenizer.truncation["max_length"] == 8


@pytest.mark.parametrize("unit", [".", "! ", "\n", " ", "a. ", "x", "。", "'.'", "A.\t"])
def test_hostile_texts_are_cut_too(unit):
    # With a quadratic pattern this would take many minutes.
    text = unit * (200_000 // len(unit))
    spans = Splitter(WordTokenizer()).split(text)
    assert (spans[-1].end if spans else 0) == len(text.rstrip())
