"""mmrag against the servers that people use, with the same weights on the same machine; both sides in one run.

make bench SUITE=compare                                    the whole, about 25 minutes on an idle machine
make bench SUITE=compare ROWS="alone overload"              some of its parts; the table keeps the others
make bench SUITE=compare SCALE=0.1 ROWS=texts PEERS=fastapi to try it; nothing is written down

All servers run at the same time, but only one is ever awake: the others are frozen while it has its turn. A client
that is asked the same of everybody takes turns with them in rounds; medians count. Prints ratio and must of every
row and fails when a must is missed. At full scale and with all peers, each part goes into loadtests/results/compare.*
as soon as it is measured, in place of what stood there for it.
"""

import argparse
import contextlib
import datetime
import os
import signal
import sys
import tempfile
from pathlib import Path

from loadtests.bench.compare_parts import PARTS, Comparison, Part
from loadtests.bench.compare_peers import KEYS
from loadtests.bench.compare_results import as_text, store
from loadtests.bench.compare_turns import Running
from loadtests.machine import describe

NUM_ROUNDS = 3
NOT_INHERITED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAY_ADDRESS", "PYTHONDONTWRITEBYTECODE")
"""What a shell may have set that would hold some servers back, or send them elsewhere."""


def main() -> int:
    """Measure, print, write down; 1 when a must is missed or could not be measured."""
    options = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    for name in NOT_INHERITED:
        os.environ.pop(name, None)
    machine = describe() | {"date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"}
    settings = {"scale": options.scale, "rounds": options.rounds, "peers": options.peers}
    is_full = options.scale == 1.0 and options.rounds >= NUM_ROUNDS and set(options.peers) == set(KEYS)

    def keep(name: str, part: Part) -> None:
        if is_full:
            store({name: part}, machine, settings)

    logs = Path(tempfile.mkdtemp(prefix="compare-"))  # not mmrag-…: a service that starts clears those away
    print(f"the servers' logs: {logs}", file=sys.stderr)
    with Running(logs) as running:
        comparison = Comparison(running, set(options.peers), options.scale, options.rounds, keep)
        with contextlib.closing(comparison):
            comparison.measure(options.rows)
    print(as_text(comparison.found, comparison.failed, machine, settings))
    rows = [row for part in comparison.found.values() for row in part.rows]
    is_whole = set(comparison.found) == set(options.rows)
    return 0 if is_whole and all(row.is_met for row in rows) else 1


def _leave(received: int, _: object) -> None:
    """So that what was started is ended, and the end is not disturbed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + received)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the length of each turn, to try it out")
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS, help="medians of so many turns")
    parser.add_argument("--rows", nargs="+", choices=PARTS, default=list(PARTS), help="which comparisons")
    parser.add_argument("--peers", nargs="+", choices=KEYS, default=KEYS, help="with whom")
    return parser


if __name__ == "__main__":
    sys.exit(main())
