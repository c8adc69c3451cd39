"""FusionDecoder: requests in, answers out."""

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from mmrag.decoder.checkpoint import find_checkpoint, fingerprint, load_checkpoint, save_checkpoint
from mmrag.decoder.engine import Engine
from mmrag.decoder.inputs import InputBuilder
from mmrag.decoder.model import FusionModel
from mmrag.decoder.scheduler import EngineLimits
from mmrag.decoder.worker import Worker
from mmrag.types import Decoded, DecodeRequest

MAX_ROWS = 32
MAX_NEW_TOKENS = 256


class FusionDecoder:
    """Reads a query and its evidence and writes an answer, a caption, or scores for labels.

    For one caller at a time, as in training; `mmrag.components.AnswerDecoder` serves many, and gives requests the
    `question_states` that some models read, which here is the caller's business.

    Attributes:
        fingerprint: 16 hex digits of the files it was loaded from or saved to; "" before that.
    """

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
        """Write config.json, model.safetensors (half precision) and tokenizer.json."""
        save_checkpoint(Path(directory), self.model, self.tokenizer)
        self.fingerprint = fingerprint(Path(directory))

    def decode(self, requests: list[DecodeRequest]) -> list[Decoded]:
        """Answers in the order of the requests.

        Raises InvalidRequest for `classify` without labels when the model was trained on none.
        """
        engine = self.engine(len(requests))
        jobs = [engine.submit(engine.prepare(request)) for request in requests]
        while engine.step():
            pass
        for job in jobs:
            if job.error is not None:
                raise job.error
        return [job.decoded for job in jobs]

    def engine(self, num_requests: int = 1, **limits) -> Engine:
        """An engine over this model, whose weights may change while nothing is decoded."""
        max_rows = min(num_requests, MAX_ROWS)
        worker = Worker(self.model, max_rows, MAX_NEW_TOKENS)
        limits = EngineLimits(**{"max_rows": max_rows, "max_waiting": num_requests} | limits)
        return Engine(worker, self.inputs, limits, MAX_NEW_TOKENS, worker.cache_size)

    def stream(self, request: DecodeRequest) -> Iterator[str | Decoded]:
        """Pieces of text as they are written, then the whole answer; their concatenation is its text."""
        engine = self.engine()
        job = engine.submit(engine.prepare(request, wants_pieces=True))
        while not job.is_done:
            engine.step()
            if piece := job.piece():
                yield piece
        if job.error is not None:
            raise job.error
        yield job.decoded
