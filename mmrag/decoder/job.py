"""One request on its way through the engine, from its submission to its answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mmrag.decoder.plan import Admission, TokenTrace
from mmrag.decoder.prompts import Prompt
from mmrag.decoder.scheduler import Sequence
from mmrag.decoder.sequence_output import SequenceOutput
from mmrag.types import Decoded, DecodeRequest

SCORED_TOKENS = 64
"""Of a long list of labels so many are scored per step, so that others go on writing; one label at least."""


@dataclass(eq=False)
class Job:
    """One request on its way. `decoded` or `error` is set when it is done.

    Attributes:
        num_written: tokens so far, the end token included.
        on_change: called, in the thread that steps, when the job is done or, if it `wants_pieces`, has more text.
    """

    request: DecodeRequest
    sequence: Sequence
    admission: Admission
    prompts: list[Prompt]
    output: SequenceOutput
    on_change: Callable[[], None]
    wants_pieces: bool = False
    targets: list[list[int]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    traces: list[TokenTrace] = field(default_factory=list)
    decoded: Decoded | None = None
    error: Exception | None = None
    submitted_s: float = field(default_factory=time.perf_counter)
    read_s: float = 0.0
    first_token_s: float = 0.0
    num_written: int = 0

    @property
    def is_done(self) -> bool:
        return self.decoded is not None or self.error is not None

    def piece(self) -> str:
        """What has been written since this was last asked, as far as it is certain."""
        if self.request.task == "classify":
            return self.decoded.text if self.decoded is not None else ""
        return self.output.piece()

    def next_targets(self) -> list[list[int]]:
        """Those of the labels that are scored next, after those that have scores."""
        left = self.targets[len(self.scores) :]
        num = 1
        # All are padded to the longest.
        while num < len(left) and (num + 1) * max(map(len, left[: num + 1])) <= SCORED_TOKENS:
            num += 1
        return left[:num]
