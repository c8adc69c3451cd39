"""What the encoder reads of a request, as tokens.

Each passage is one sequence with the query in front (Fusion-in-Decoder, Izacard & Grave 2021):

    <answer> question <title> title <text> text </s>

A tokenizer without those markers (a plain T5's) gets the same in words; a question without passages is read alone.
"""

from dataclasses import dataclass, field

from tokenizers import Encoding, Tokenizer

from mmrag.decoder.plain_words import question
from mmrag.decoder.tokens import beginning
from mmrag.errors import InvalidRequest
from mmrag.sentences import sentences
from mmrag.types import DecodeRequest, Passage

MARKERS = ("<answer>", "<caption>", "<classify>", "<title>", "<text>")


@dataclass(slots=True)
class Prompt:
    """One sequence for the encoder.

    Attributes:
        copy_start: before this token is the question; what is after it, but for the last, may be copied.
        passage: its index in the request, -1 where there is none.
        title, text: its parts as they were tokenized, before the prompt was cut; of long ones not all.
        num_between: tokens between title and text.
        sentences: how many tokens the question, the title, each sentence of the text and the end have; the markers
            go with what is before them. Empty where it is not known.
    """

    ids: list[int]
    copy_start: int
    passage: int = -1
    title: Encoding | None = None
    text: Encoding | None = None
    num_between: int = 1
    sentences: list[int] = field(default_factory=list)


class PromptBuilder:
    """Writes prompts of at most `max_tokens`, half of them for the question; a plain T5 reads one alone whole.

    Attributes:
        markers: each of `MARKERS` with its id; `has_markers`: whether the tokenizer knows them all.
    """

    def __init__(self, tokenizer: Tokenizer, end_id: int, max_tokens: int):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer, self._end_id, self.max_tokens = tokenizer, end_id, max_tokens
        self.markers = {marker: tokenizer.token_to_id(marker) for marker in MARKERS}
        self.has_markers = None not in self.markers.values()

    def build(self, request: DecodeRequest) -> list[Prompt]:
        """A prompt for each passage, or one where there is none."""
        if not self.has_markers:
            return self._plain_prompts(request)
        query = self._question_ids(request.text or "")
        head = [self.markers[f"<{request.task}>"], *query]
        if not request.passages:
            return [Prompt([*head, self._end_id], len(head) + 1)]
        return [self._passage_prompt(head, i, passage) for i, passage in enumerate(request.passages)]

    def check_question(self, request: DecodeRequest) -> None:
        """Raises InvalidRequest where the question is longer than what is read of it."""
        max_tokens, is_cut = self.max_tokens // 2, self.has_markers or request.passages
        if is_cut and len(self._encode(request.text or "", max_tokens + 1).ids) > max_tokens:
            message = f"the decoder reads questions of at most {max_tokens} tokens: ask in fewer words"
            raise InvalidRequest(message, "text")

    def _passage_prompt(self, head: list[int], index: int, passage: Passage) -> Prompt:
        title, text = self._encode(passage.title), self._encode(passage.text)
        ids = [*head, self.markers["<title>"], *title.ids, self.markers["<text>"], *text.ids]
        ids = [*ids[: self.max_tokens - 1], self._end_id]
        of_text = [last - first for first, last in sentences(f" {passage.text}", [end - 1 for _, end in text.offsets])]
        parts = cut_to([len(head) + 1, len(title.ids) + 1, *of_text, 1], len(ids))
        return Prompt(ids, len(head) + 1, index, title, text, sentences=parts)

    def _plain_prompts(self, request: DecodeRequest) -> list[Prompt]:
        if not request.passages:
            ids = self._tokenizer.encode(question(request), add_special_tokens=False).ids
            return [Prompt([*ids, self._end_id], len(ids) + 1)]
        asked = self._question_ids(f"question: {question(request)}")
        head = [*asked, *self._encode("title:").ids]
        return [self._plain_passage_prompt(head, i, passage) for i, passage in enumerate(request.passages)]

    def _plain_passage_prompt(self, head: list[int], index: int, passage: Passage) -> Prompt:
        title, text, between = self._encode(passage.title), self._encode(passage.text), self._encode("context:").ids
        ids = [*head, *title.ids, *between, *text.ids][: self.max_tokens - 1]
        return Prompt([*ids, self._end_id], len(head), index, title, text, len(between))

    def _question_ids(self, text: str) -> list[int]:
        max_tokens = self.max_tokens // 2
        return self._encode(text, max_tokens).ids[:max_tokens]

    def _encode(self, text: str, max_tokens: int | None = None) -> Encoding:
        # A leading space, so that a word has the same tokens wherever it stands.
        return beginning(self._tokenizer, " " + text if text else "", max_tokens or self.max_tokens)


def cut_to(lengths: list[int], total: int) -> list[int]:
    """Without what is behind `total`."""
    found = []
    for length in lengths:
        found.append(min(length, total - sum(found)))
        if sum(found) == total:
            break
    return found
