"""What is read of long texts, and what reading them costs."""

import pytest
import torch
from decoder.small import byte_tokenizer, passage, request, small_decoder
from tokenizers import Tokenizer, models, pre_tokenizers

from mmrag.decoder.layers import SentencePooling
from mmrag.decoder.prompts import MARKERS, PromptBuilder
from mmrag.decoder.sequence_output import MAX_LABEL_TOKENS, label_targets
from mmrag.decoder.tokens import beginning
from mmrag.errors import InvalidRequest

WORDS = ["capital", "currency", "of", "the", "river", "constitution"]
TEXTS = {
    "ordinary": " ".join(WORDS[i % len(WORDS)] for i in range(30)),
    "long": " ".join(WORDS[i % len(WORDS)] for i in range(3_000)),
    "without spaces": "漢字" * 4_000,
    "of spaces": " " * 9_000,
    "sparse, then dense": "constitution " * 100 + "漢字" * 4_000,
    "empty": "",
}


def word_tokenizer() -> Tokenizer:
    """A token for each word."""
    vocabulary = {word: i for i, word in enumerate(["<unk>", "</s>", *MARKERS, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens(["</s>", *MARKERS])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.mark.parametrize(
    ("make_tokenizer", "name"), [(byte_tokenizer, name) for name in TEXTS] + [(word_tokenizer, "long")]
)
def test_the_beginning_has_the_tokens_of_the_whole(make_tokenizer, name):
    tokenizer, text, num = make_tokenizer(), TEXTS[name], 50
    found = beginning(tokenizer, text, num)
    whole = tokenizer.encode(text, add_special_tokens=False)
    assert found.ids[:num] == whole.ids[:num]
    assert found.offsets[:num] == whole.offsets[:num]
    assert len(found.ids) <= 3 * 16 * num


def test_of_long_questions_and_passages_little_more_is_tokenized_than_is_read():
    class Counting:
        def __init__(self):
            self.tokenizer, self.num_chars = byte_tokenizer(), 0

        def encode(self, text, **how):
            self.num_chars += len(text)
            return self.tokenizer.encode(text, **how)

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

    counting, long = Counting(), TEXTS["without spaces"]
    asked = request(long, 0)
    asked.passages = [passage(long, long, i) for i in range(3)]
    prompts = PromptBuilder(counting, 1, 40).build(asked)
    assert [len(prompt.ids) for prompt in prompts] == [40, 40, 40]
    assert counting.num_chars <= 2 * (20 + 6 * 40)
    counting.num_chars = 0
    [target] = label_targets(counting, 1, [long])
    assert len(target) == MAX_LABEL_TOKENS
    assert counting.num_chars <= 2 * MAX_LABEL_TOKENS


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        (40, [5, 4, 2, 3, 2, 1]),  # the question, the title, three lines, the end
        (12, [5, 4, 2, 1]),
        (7, [5, 2]),
    ],
)
def test_a_prompt_tells_its_sentences(max_tokens, expected):
    text = "the capital\nof the river\ncurrency capital"
    asked = request("capital of the", 0)
    asked.passages = [passage("river constitution constitution", text, 0)]
    [prompt] = PromptBuilder(word_tokenizer(), 1, max_tokens).build(asked)
    assert prompt.sentences == expected
    assert sum(prompt.sentences) == len(prompt.ids)


def test_a_word_with_the_space_before_it_begins_the_sentence_that_it_is_the_first_of():
    words = ["<unk>", "</s>", *MARKERS, "Ġwhat", "ĠLima", "Ġis", "Ġbig", "ĠIt", "."]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    asked = request("what", 0)
    asked.passages = [passage("Lima", "Lima is big. It is big. It is", 0)]
    [prompt] = PromptBuilder(tokenizer, 1, 40).build(asked)
    assert prompt.sentences == [3, 2, 4, 4, 2, 1]


def test_a_word_changes_what_is_pooled_for_its_own_sentence_only():
    torch.manual_seed(0)
    pooling = SentencePooling(small_decoder().model.config)
    torch.nn.init.normal_(pooling.down.weight)
    x, lengths = torch.randn(9, 32), torch.tensor([3, 4, 2])
    changed = x.clone()
    changed[4] += 1
    with torch.inference_mode():
        difference = (pooling(changed, lengths) - changed) - (pooling(x, lengths) - x)
    assert difference[3:7].abs().min(1).values.sum() > 0
    torch.testing.assert_close(difference[3:4].expand(4, -1), difference[3:7])
    assert difference[[0, 1, 2, 7, 8]].abs().max() < 1e-6


def test_a_question_that_would_be_cut_is_refused():
    prompts = PromptBuilder(word_tokenizer(), 1, 12)
    prompts.check_question(request("capital of the river of the", 1))
    with pytest.raises(InvalidRequest, match="at most 6 tokens"):
        prompts.check_question(request("capital of the river of the capital", 1))
