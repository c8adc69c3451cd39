"""Text as it grows: ends, stop strings, and pieces that add up."""

import random

import pytest
from decoder.small import byte_tokenizer

from mmrag.decoder.sequence_output import SequenceOutput

END = 1


def output(stop=(), max_new_tokens=100) -> SequenceOutput:
    return SequenceOutput(byte_tokenizer(), END, max_new_tokens, list(stop))


def tokens_of(text: str) -> list[int]:
    return byte_tokenizer().encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("stop", [(), ("\n\n",), ("lo W", "zz"), ("ü",), ("Welt!!",)])
def test_pieces_add_up_to_the_text_however_often_they_are_asked_for(stop):
    text = " Hallo Welt, schöne Grüße\n\n aus Zürich – 北京"
    for seed in range(5):
        rng, one, pieces = random.Random(seed), output(stop), []
        for token in [*tokens_of(text), END]:
            one.add(token)
            if one.finish_reason:
                break
            if rng.random() < 0.5:
                pieces.append(one.piece())
        pieces.append(one.piece())
        assert "".join(pieces) == one.text
        ends = [text.strip().index(s) for s in stop if s in text]
        assert one.text == (text.strip()[: min(ends)].rstrip() if ends else text.strip())
        assert "\ufffd" not in "".join(pieces)
        shown = byte_tokenizer().decode(one.shown_tokens).strip()
        assert shown.startswith(one.text) and len(shown) <= len(one.text) + 1


def test_the_end_token_is_no_part_of_the_text():
    one = output()
    assert one.add(tokens_of("a")[0])
    assert not one.add(END)
    assert (one.text, one.finish_reason, len(one.tokens)) == ("a", "stop", 1)


def test_length_ends_it():
    one = output(max_new_tokens=2)
    for token in tokens_of("ab"):
        one.add(token)
    assert (one.text, one.finish_reason) == ("ab", "length")
