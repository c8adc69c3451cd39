"""One step as a CUDA graph: hundreds of small kernels with one launch.

Not measured yet: written where there was no GPU. The same step runs on a CPU without it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NUM_TRIALS = 3


class CudaGraph:
    """Replays `step` for inputs of always the same shapes; what it returns is overwritten by the next call."""

    def __init__(self, step: Callable[..., Sequence], undo: Callable[[], None]):
        """`undo` is called after the trial runs and the recording, before the first real run."""
        self._step, self._undo = step, undo
        self._inputs: list[Tensor] = []
        self._outputs: Sequence = ()

    def record(self, *inputs: Tensor) -> None:
        """Do so, unless it is done; before any sequence has written, which what is undone would disturb."""
        if not self._inputs:
            self._inputs = [given.clone() for given in inputs]
            self._capture()
            self._undo()

    def __call__(self, *inputs: Tensor) -> Sequence:
        for place, given in zip(self._inputs, inputs, strict=True):
            place.copy_(given, non_blocking=True)
        self._replay()
        return self._outputs

    def _capture(self) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(NUM_TRIALS):
                self._step(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._step(*self._inputs)

    def _replay(self) -> None:
        self._graph.replay()
