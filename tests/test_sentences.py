"""Where sentences end, by characters and by tokens."""

import pytest

from mmrag.sentences import sentences


def cut(text: str) -> list[str]:
    """With a token for each character."""
    return [text[first:last] for first, last in sentences(text, list(range(len(text))))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is red. It is big! Is it?", ["It is red. ", "It is big! ", "Is it?"]),
        ("J. Smith lives in St. George's. Who else?", ["J. Smith lives in St. George's. ", "Who else?"]),
        ("It has 3.5 km, e.g. hills.", ["It has 3.5 km, e.g. hills."]),
        ("Capital: Lima\nArea: 3", ["Capital: Lima\n", "Area: 3"]),
        ("一。二。", ["一。", "二。"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_would_say(text, expected):
    assert cut(text) == expected


def test_a_token_that_begins_with_the_space_before_its_word_goes_with_the_word():
    spans = [(0, 3), (3, 4), (4, 7), (7, 8)]  # " It", ".", " He", "."
    places = [end - 1 for _, end in spans]
    assert list(sentences(" It. He.", places)) == [(0, 2), (2, 4)]
