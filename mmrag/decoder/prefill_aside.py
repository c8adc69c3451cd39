"""Reading beside writing: newcomers' evidence is encoded in a thread of its own, on a core that steps leave free."""

import math
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from mmrag.decoder.model import State
from mmrag.decoder.plan import Admission
from mmrag.decoder.prefill import Prefill


class Reader:
    """The thread. Its results are the same to the last bit as those of a `Prefill` read between steps."""

    def __init__(self):
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="fusion-decoder-reader")

    def begin(self, prefill: Prefill) -> "PrefillAside":
        """Start reading."""
        return PrefillAside(prefill, self._executor)


class PrefillAside:
    """A `Prefill` that goes on by itself."""

    def __init__(self, prefill: Prefill, executor: ThreadPoolExecutor):
        self._prefill, self._is_wanted = prefill, True
        self._reading: Future[None] = executor.submit(self._read)

    @property
    def admissions(self) -> list[Admission]:
        return self._prefill.admissions

    @property
    def states(self) -> list[State]:
        return self._prefill.states

    def advance(self, num_tokens: float) -> bool:
        """Whether all is read; where nothing else is to be done, and `num_tokens` has no bound, once it is.

        Raises what went wrong in reading.
        """
        if math.isinf(num_tokens) or self._reading.done():
            self._reading.result()
            return True
        return False

    def abandon(self) -> None:
        """Nobody wants it any more: reading ends after the layer it is at."""
        self._is_wanted = False

    @torch.inference_mode()
    def _read(self) -> None:
        while self._is_wanted and not self._prefill.advance(1):
            pass
