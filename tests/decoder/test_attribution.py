"""Where words come from is said in characters of the very fields they stand in."""

import pytest
from decoder.small import byte_tokenizer, request
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mmrag.decoder.attribution import places_of
from mmrag.decoder.prompts import PromptBuilder


def plain_tokenizer() -> Tokenizer:
    """One without our markers, as a plain T5's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(["<pad>", "</s>", *alphabet])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return tokenizer


@pytest.mark.parametrize("make_tokenizer", [byte_tokenizer, plain_tokenizer])
def test_each_token_that_can_be_copied_stands_for_the_characters_it_was_made_of(make_tokenizer):
    tokenizer, asked = make_tokenizer(), request(num_passages=2)
    for passage, prompt in zip(asked.passages, PromptBuilder(tokenizer, 1, 256).build(asked), strict=True):
        places, ids = places_of(prompt), prompt.ids[prompt.copy_start : -1]
        assert len(places) == len(ids)
        assert [place[0] for place in places if place] == (
            ["title"] * len(prompt.title.ids) + ["text"] * len(prompt.text.ids)
        )
        for token, place in zip(ids, places, strict=True):
            if place is not None:
                name, start, end = place
                assert getattr(passage, name)[start:end].strip() == tokenizer.decode([token]).strip()
