"""What the engine tells its worker for one step, and what it hears back: plain values, the same on every rank."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mmrag.decoder.inputs import Batch
from mmrag.decoder.whole_words import WholeWords
from mmrag.types import Sampling


@dataclass(slots=True)
class Admission:
    """A sequence that is to join once its evidence is encoded. `evidence`: a batch of this one request.

    Attributes:
        words: the evidence's words, which a pointer copies whole.
        has_trained_labels: wanted are the probabilities of the labels the model was trained on, not words.
    """

    evidence: Batch
    sampling: Sampling
    words: WholeWords
    is_explained: bool = False
    has_trained_labels: bool = False


@dataclass(slots=True)
class Scoring:
    """Targets (token ids) whose likelihood is wanted as the answer of the sequence at `row`."""

    row: int
    targets: list[list[int]]


@dataclass(slots=True)
class Plan:
    """One step, in this order: rows leave, those left write a token each, and newcomers are read for a while.

    A worker that looks ahead has them write before: from what it chose itself, which `last_ids` repeats.

    Attributes:
        leave: rows that end; the last row moves into each gap, in this order.
        last_ids: the last token of each row that is left.
        join: read these next; they get the next free rows once all are read. Empty while others are being read.
        abandon: what is being read is wanted no more.
        prefill_tokens: how many tokens may be read in this step; at least one layer of one chunk is.
    """

    leave: list[int] = field(default_factory=list)
    last_ids: list[int] = field(default_factory=list)
    join: list[Admission] = field(default_factory=list)
    abandon: bool = False
    prefill_tokens: int = 0
    scoring: Scoring | None = None


@dataclass(slots=True)
class TokenTrace:
    """Where one token of an explained sequence came from.

    Attributes:
        copied [S]: the part of its probability that each source token gave; None without a pointer.
        attended [S]: attention on each source token, mean of heads and layers.
        regions [G]: attention over the query image's grid, None without one.
    """

    copied: np.ndarray | None
    attended: np.ndarray
    regions: np.ndarray | None


@dataclass(slots=True)
class Choice:
    """What one row is given after a step: its next token, and what else its sequence asks for."""

    token: int
    trace: TokenTrace | None = None
    label_probabilities: list[float] | None = None


@dataclass(slots=True)
class Result:
    """`choices`: one for each row. `have_joined`: what was being read has rows now. `scores`: of `Plan.scoring`."""

    choices: list[Choice] = field(default_factory=list)
    have_joined: bool = False
    scores: list[float] = field(default_factory=list)


class Runs(Protocol):
    """Does what plans say: a `worker.Worker`, or a `ranks.Leader` of several."""

    def run(self, plan: Plan) -> Result:
        """One step; everything it depends on is in the plan, so that every rank comes to the same result."""

    def reset(self) -> None:
        """Forget every sequence, after a step that failed."""
