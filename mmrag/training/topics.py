"""A second thing to learn from each example: what the question is about, and which tokens of the passages tell what.

One answer says which of a passage's facts was asked for; from the others nothing is learned. Naming the topic of every
fact, and that of the question, by the same classifier puts both into one space, where the pointer finds them
(multi-task learning, Caruana 1997). The classifier is thrown away after training.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrag.decoder.inputs import Batch
from mmrag.decoder.prompts import Prompt
from mmrag.training.data import Example

NOTHING, IGNORED = 0, -100
NOTHING_WEIGHT = 0.1
"""Most tokens tell nothing that anybody would ask for."""


class TopicClassifier(nn.Module):
    """Scores [..., 1 + topics] of states [..., d]; the first is for none of them."""

    def __init__(self, topics: tuple[str, ...], d_model: int):
        super().__init__()
        self.topics = {topic: i + 1 for i, topic in enumerate(topics)}
        self.output = nn.Linear(d_model, 1 + len(topics))

    def loss(self, source: Tensor, hidden: Tensor, batch: Batch, examples: list[Example]) -> Tensor:
        """Of the source's states [B, S, d] and the decoder's first ones [B, d]."""
        told = self.told(batch, examples).to(source.device)
        asked = torch.tensor([self.topics.get(example.topic, IGNORED) for example in examples], device=hidden.device)
        weight = torch.ones(1 + len(self.topics), device=source.device)
        weight[NOTHING] = NOTHING_WEIGHT
        of_source = F.cross_entropy(self.output(source).float().flatten(0, 1), told.flatten(), weight)
        if (asked == IGNORED).all():
            return of_source
        return of_source + F.cross_entropy(self.output(hidden).float(), asked)

    def told(self, batch: Batch, examples: list[Example]) -> Tensor:
        """The topic of each source token [B, S]; that of tokens which are not copied is not asked for."""
        told = torch.full(batch.source_ids.shape, IGNORED).masked_fill(batch.copyable.cpu(), NOTHING)
        for b, (example, prompts) in enumerate(zip(examples, batch.prompts, strict=True)):
            at = 0
            for facts, passage, prompt in zip(example.told, example.request.passages, prompts, strict=False):
                for topic in facts.keys() & self.topics.keys():
                    if (tokens := place(prompt, passage.text, facts[topic])) is not None:
                        told[b, at + tokens[0] : at + tokens[1]] = self.topics[topic]
                at += len(prompt.ids)
        return told


def place(prompt: Prompt, text: str, value: str) -> tuple[int, int] | None:
    """First and last + 1 of the prompt's tokens that are `value` in the passage's text; None unless it is there once.

    Part of a word is no value.
    """
    start, end = text.find(value), text.find(value) + len(value)
    is_inside = text[end : end + 1].isalnum() or text[:start][-1:].isalnum()
    if not value or text.count(value) != 1 or is_inside:
        return None
    first, last = prompt.text.char_to_token(1 + start), prompt.text.char_to_token(end)
    if first is None or last is None:
        return None  # behind what was tokenized
    before = prompt.copy_start + len(prompt.title.ids) + prompt.num_between
    end = min(before + last + 1, len(prompt.ids) - 1)
    return (before + first, end) if before + first < end else None
