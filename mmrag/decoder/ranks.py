"""Lockstep: rank 0 tells what to do, every rank does it.

A worker is any object with `run(plan)`, given the same plan on every rank. Ranks that are out of step cannot be brought
back: after an error the group is finished, and whoever started its processes starts new ones.
"""

import threading
import time
from typing import Any

import torch

from mmrag.decoder.group import Group
from mmrag.decoder.plan import Runs
from mmrag.errors import RankLost, Unavailable

RUN, BEAT, END = "run", "beat", "end"
FRESH_S = 1.0
"""A step that ended so lately proves as much as a beat."""


class Leader:
    """Rank 0: a worker that takes the other ranks along."""

    def __init__(self, worker: Runs, group: Group):
        self.worker, self.group = worker, group
        self._lock = threading.Lock()
        self._problem: Unavailable | None = None
        self._last_step_s = time.monotonic()

    def run(self, plan: Any) -> Any:
        """The worker's result for `plan`, which must be picklable.

        Raises RankLost when a rank is lost or the step fails here, and ever after.
        """
        with self._lock:
            return self._together(RUN, plan)

    def reset(self) -> None:
        """In vain: after an error the group is finished."""

    def check(self, timeout_s: float) -> None:
        """Return when every rank has answered; raises Unavailable when one does not within `timeout_s`."""
        if not self._lock.acquire(timeout=timeout_s):
            if time.monotonic() - self._last_step_s > timeout_s:
                raise Unavailable(f"a step of the sharded decoder has not ended for more than {timeout_s:g} s")
            return
        try:
            if self._problem is not None or time.monotonic() - self._last_step_s > FRESH_S:
                self._together(BEAT, None)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Let the other ranks go."""
        with self._lock:
            if self._problem is None:
                self._together(END, None)
                self._problem = Unavailable("the sharded decoder was closed")

    def _together(self, kind: str, plan: Any) -> Any:
        if self._problem is not None:
            raise self._problem
        try:
            self.group.broadcast((kind, plan))
            result = do(kind, plan, self.worker, self.group)
        except RankLost as error:
            self._problem = error
            raise
        except Exception as error:
            self._problem = RankLost(
                f"a step of the sharded decoder failed, it is started anew; ask again in a moment ({error!r})"
            )
            raise self._problem from error
        self._last_step_s = time.monotonic()
        return result


def follow(worker: Runs, group: Group) -> None:
    """Rank 1 and those after it: do what rank 0 says until it closes. Raises when another rank is lost."""
    while True:
        kind, plan = group.broadcast()
        if kind == END:
            return
        do(kind, plan, worker, group)


def do(kind: str, plan: Any, worker: Runs, group: Group) -> Any:
    if kind == RUN:
        return worker.run(plan)
    if kind == BEAT:
        group.sum(torch.ones(1))
    return None
