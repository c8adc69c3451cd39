"""The limit: what the bare text model does where nothing is served, at the best settings that were found."""

import itertools
import os
import subprocess
import sys
from typing import Any

from loadtests.bench.compare_bare import BATCHES, Bare
from loadtests.bench.compare_peers import installed
from loadtests.bench.compare_turns import Turn
from loadtests.bench.compare_workload import questions

NUM_TEXTS = 1_024
SWEEP_PART = 0.25


class BareAtItsBest:
    """Turns of the fastest of: one process on all cores, or one on each; our session, or sentence-transformers; sizes
    of batches. All texts are there at once, and are sorted by length. `missing`: name -> why it was not tried."""

    def __init__(self, turn_s: float):
        self._turn_s = turn_s
        self.missing: dict[str, str] = {}
        self._best: tuple[Bare, dict[str, Any]] | None = None
        self._texts = questions(NUM_TEXTS, seed=4)
        self.settings, self._most = "", 0.0

    def turn(self) -> Turn:
        """One turn; before the first, all settings are tried."""
        if self._best is None:
            self._find()
        return self._run(*self._best, self._turn_s)

    def close(self) -> None:
        if self._best:
            self._best[0].close()

    def _find(self) -> None:
        for side, (num, threads) in itertools.product(BATCHES, ((1, None), (len(os.sched_getaffinity(0)), 1))):
            if python := self._python(side):
                bare = Bare(num, python, threads)
                try:
                    self._try(bare, side, f"{side}, {num} process(es), {threads or 'default'} thread(s)", threads)
                except RuntimeError as error:
                    self.missing[f"bare {side}"] = str(error)
                if self._best is None or bare is not self._best[0]:
                    bare.close()
        if self._best is None:
            raise RuntimeError(f"the bare model does not run: {self.missing}")

    def _try(self, bare: Bare, side: str, what: str, num_threads: int | None) -> None:
        """All sizes of batches; `bare` is kept where it is the fastest so far."""
        for batch in BATCHES[side]:
            job = {"side": side, "batch": batch, "num_threads": num_threads}
            per_s = self._run(bare, job, SWEEP_PART * self._turn_s).per_s
            told = f"{what}, batches of {batch}: {per_s:.0f}/s"
            print(f"  bare model: {told}", file=sys.stderr, flush=True)
            if per_s > self._most:
                self._most, self.settings = per_s, told
                self._keep(bare, job)

    def _keep(self, bare: Bare, job: dict[str, Any]) -> None:
        if self._best and self._best[0] is not bare:
            self._best[0].close()
        self._best = bare, job

    def _python(self, side: str) -> str | None:
        if side == "ours":
            return sys.executable
        try:
            return installed("fastapi")
        except (OSError, subprocess.CalledProcessError) as error:
            self.missing[f"bare {side}"] = f"cannot be installed here: {getattr(error, 'stderr', None) or error}"
            return None

    def _run(self, bare: Bare, job: dict[str, Any], span_s: float) -> Turn:
        found = bare.do(do="texts", texts=self._texts, span_s=span_s, **job)
        per_s = sum(one["per_s"] for one in found)
        return Turn(per_s=per_s, cpu_ms=1000 * sum(one["cpu_s"] * one["per_s"] for one in found) / per_s)
