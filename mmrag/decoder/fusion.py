"""FusionDecoder: requests in, answers out."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer

from mmrag.decoder.attribution import attribute
from mmrag.decoder.checkpoint import find_checkpoint, fingerprint, load_checkpoint, save_checkpoint
from mmrag.decoder.generate import Generated, generate, score_labels, score_trained_labels
from mmrag.decoder.inputs import Batch, InputBuilder
from mmrag.decoder.model import FusionModel
from mmrag.errors import InvalidRequest
from mmrag.types import Decoded, DecodeRequest, LabelScore


class FusionDecoder:
    """Reads a query and its evidence and writes an answer, a caption, or scores for labels."""

    def __init__(self, model: FusionModel, tokenizer: Tokenizer, device: str = "cpu", max_passage_tokens: int = 256):
        self.model, self.tokenizer, self.device = model.to(device), tokenizer, device
        self.inputs = InputBuilder(tokenizer, model.config, max_passage_tokens)
        self.fingerprint = ""

    @classmethod
    def load(cls, model: str, device: str = "cpu", max_passage_tokens: int = 256) -> "FusionDecoder":
        """Load a directory (or Hugging Face name): a fusion decoder, or a plain T5 with the additions off.

        Raises ConfigurationError when files are missing or do not fit together.
        """
        directory = find_checkpoint(model)
        decoder = cls(*load_checkpoint(directory, device), device, max_passage_tokens)
        decoder.fingerprint = fingerprint(directory)
        return decoder

    def save(self, directory: str | Path) -> None:
        save_checkpoint(Path(directory), self.model, self.tokenizer)
        self.fingerprint = fingerprint(Path(directory))

    @torch.inference_mode()
    def decode(self, requests: list[DecodeRequest]) -> list[Decoded]:
        """Answers in the order of the requests, all decoded as one batch.

        Raises InvalidRequest for `classify` without labels when the model was trained on none.
        """
        alike: dict[Callable, list[int]] = {}
        for i, request in enumerate(requests):
            alike.setdefault(self.way_of(request), []).append(i)
        answers: dict[int, Decoded] = {}
        for answer, indices in alike.items():
            answers |= zip(indices, answer([requests[i] for i in indices]), strict=True)
        return [answers[i] for i in range(len(requests))]

    def way_of(self, request: DecodeRequest) -> Callable[[list[DecodeRequest]], list[Decoded]]:
        if request.task != "classify":
            return self.write
        return self.choose if request.labels else self.classify

    def stream(self, request: DecodeRequest) -> Iterator[str | Decoded]:
        """Pieces of text as they are written, then the whole answer; their concatenation is its text."""
        if request.task == "classify":
            decoded = self.decode([request])[0]
            yield decoded.text
            yield decoded
            return
        batch, sent, sequence = self.inputs.build([request]).to(self.device), "", Generated()
        with torch.inference_mode():
            for (sequence,) in generate(self.model, batch, [request]):
                text = self.text(sequence)
                if not text.endswith("\ufffd") and text.startswith(sent) and text != sent:
                    yield text[len(sent) :]
                    sent = text
        decoded = self.decoded(sequence, request, batch, 0)
        if decoded.text != sent:
            yield decoded.text[len(sent) :]
        yield decoded

    def write(self, requests: list[DecodeRequest]) -> list[Decoded]:
        batch = self.inputs.build(requests).to(self.device)
        *_, written = generate(self.model, batch, requests)
        pairs = enumerate(zip(written, requests, strict=True))
        return [self.decoded(sequence, request, batch, row) for row, (sequence, request) in pairs]

    def text(self, sequence: Generated) -> str:
        return self.tokenizer.decode(sequence.tokens, skip_special_tokens=True).strip()

    def decoded(self, sequence: Generated, request: DecodeRequest, batch: Batch, row: int) -> Decoded:
        explained = None
        if sequence.trace is not None:
            explained = attribute(sequence.trace, request, batch, row, self.tokenizer)
        return Decoded(self.text(sequence), None, explained, len(sequence.tokens), sequence.finish_reason)

    def classify(self, requests: list[DecodeRequest]) -> list[Decoded]:
        """Scores of the labels the model was trained on, by its label head; best first."""
        if self.model.labels is None:
            raise InvalidRequest("this model was trained on no labels: name the labels to choose among", "labels")
        scores = score_trained_labels(self.model, self.inputs.build(requests).to(self.device))
        return [self.labelled(self.model.config.labels, of_request) for of_request in scores]

    def choose(self, requests: list[DecodeRequest]) -> list[Decoded]:
        """Scores of the caller's labels, by how likely the model is to write each; best first."""
        labels = [request.labels for request in requests]
        scores = score_labels(self.model, self.inputs.build(requests).to(self.device), self.tokenizer, labels)
        return [self.labelled(*pair) for pair in zip(labels, scores, strict=True)]

    def labelled(self, labels: list[str], scores: list[float]) -> Decoded:
        ranked = sorted(map(LabelScore, labels, scores), key=lambda label: -label.score)
        return Decoded(ranked[0].label, ranked)
