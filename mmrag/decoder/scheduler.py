"""Who runs: sequences wait in order, are read, run a row each, and leave at any time. Knows nothing of tensors.

Iteration-level scheduling after Yu et al. 2022 (Orca): between any two steps sequences may join and leave.
"""

from collections import deque
from dataclasses import dataclass, field

from mmrag.errors import InvalidRequest, Overloaded


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What may be held and done at a time.

    Attributes:
        max_rows: sequences that write at a time.
        max_waiting: beyond it new ones are refused.
        memory_bytes: of the keys and values of what is read, for all that are read and written.
        group_tokens: newcomers are read in groups of about that many source tokens.
        prefill_tokens: read per step while others write, so that they keep their pace.
    """

    max_rows: int = 32
    max_waiting: int = 256
    memory_bytes: float = 2 * 2**30
    group_tokens: int = 4_096
    prefill_tokens: int = 512


@dataclass(eq=False, slots=True)
class Sequence:
    """A request as the scheduler sees it. `num_tokens` of source; `num_bytes` from joining to leaving."""

    num_tokens: int
    num_bytes: float
    deadline_s: float | None = None
    is_gone: bool = False


@dataclass(slots=True)
class Decision:
    """See `plan.Plan`, whose bare bones these are."""

    leave: list[int] = field(default_factory=list)
    join: list[Sequence] = field(default_factory=list)
    abandon: bool = False
    prefill_tokens: float = 0


class Scheduler:
    """`waiting`, `reading` (one group at a time) and `running`, whose places are the worker's rows."""

    def __init__(self, limits: EngineLimits):
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.reading: list[Sequence] = []
        self.running: list[Sequence] = []

    @property
    def num_bytes(self) -> float:
        """Memory spoken for."""
        return sum(sequence.num_bytes for sequence in (*self.reading, *self.running))

    @property
    def is_idle(self) -> bool:
        return not (self.waiting or self.reading or self.running)

    def submit(self, sequence: Sequence, retry_after_s: float) -> None:
        """Raises Overloaded when too many wait, InvalidRequest when it could never run."""
        if sequence.num_bytes > self.limits.memory_bytes:
            raise InvalidRequest("this request needs more memory than the decoder has: send less text, fewer passages")
        self.check_room(retry_after_s)
        self.waiting.append(sequence)

    def check_room(self, retry_after_s: float, num_more: int = 0) -> None:
        """Raises Overloaded unless one can wait beside those waiting and `num_more`."""
        if len(self.waiting) + num_more >= self.limits.max_waiting:
            raise Overloaded("the queue of the fusion decoder is full", retry_after_s=retry_after_s)

    def drop(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is; a row and memory are free at the next step."""
        sequence.is_gone = True
        if sequence in self.waiting:
            self.waiting.remove(sequence)

    def expired(self, now_s: float) -> list[Sequence]:
        """Those whose time is over."""
        everyone = (*self.waiting, *self.reading, *self.running)
        return [one for one in everyone if not one.is_gone and one.deadline_s is not None and now_s > one.deadline_s]

    def decide(self) -> Decision:
        """What the worker does next; `joined` is to be called when it says that what it read has joined."""
        leave = self._leave()
        abandon = bool(self.reading) and all(sequence.is_gone for sequence in self.reading)
        if abandon:
            self.reading = []
        join = [] if self.reading else self._next_group()
        self.reading += join
        prefill_tokens = self.limits.prefill_tokens if self.running else float("inf")
        return Decision(leave, join, abandon, prefill_tokens if self.reading else 0)

    def joined(self) -> None:
        """What was being read runs, in its order."""
        self.running += self.reading
        self.reading = []

    def clear(self) -> None:
        """Forget everybody."""
        self.waiting.clear()
        self.reading, self.running = [], []

    def _leave(self) -> list[int]:
        leave = []
        for sequence in [sequence for sequence in self.running if sequence.is_gone]:
            row, last = self.running.index(sequence), self.running.pop()
            if last is not sequence:
                self.running[row] = last
            leave.append(row)
        return leave

    def _next_group(self) -> list[Sequence]:
        # Strictly in order: a large request is not overtaken by small ones for ever.
        group: list[Sequence] = []
        num_bytes, num_tokens = self.num_bytes, 0
        while self.waiting:
            first = self.waiting[0]
            is_full = len(self.running) + len(group) >= self.limits.max_rows
            if is_full or num_bytes + first.num_bytes > self.limits.memory_bytes:
                break
            if group and num_tokens + first.num_tokens > self.limits.group_tokens:
                break
            group.append(self.waiting.popleft())
            num_bytes, num_tokens = num_bytes + first.num_bytes, num_tokens + first.num_tokens
        return group
