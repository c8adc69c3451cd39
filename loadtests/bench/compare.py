"""mmrag against the servers that people use, with the same weights on the same machine; both sides in one run.

make bench SUITE=compare                                   the whole, about 25 minutes on an idle machine
make bench SUITE=compare SCALE=0.1 ROWS=texts PEERS=fastapi to try a part of it

All servers run at the same time, but only one is ever awake: the others are frozen while it has its turn. A client
that is asked the same of everybody takes turns with them in rounds; medians count. Prints ratio and must of every
row and fails when a must is missed. At full scale, what was measured goes into loadtests/results/compare.*: rows
measured on their own replace the older ones there.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from loadtests.bench.compare_parts import PARTS, Comparison
from loadtests.bench.compare_peers import KEYS
from loadtests.bench.compare_results import as_text, store
from loadtests.bench.compare_turns import Running
from loadtests.machine import describe

NUM_ROUNDS = 3


def main() -> int:
    """Measure, print, write down; 1 when a must is missed or could not be measured."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, _leave)
    machine = describe()
    logs = Path(tempfile.mkdtemp(prefix="compare-"))  # not mmrag-…: a service that starts clears those away
    print(f"the servers' logs: {logs}", file=sys.stderr)
    with Running(logs) as running:
        comparison = Comparison(running, set(options.peers), options.scale, options.rounds)
        with contextlib.closing(comparison):
            comparison.measure(options.rows)
    settings = {"scale": options.scale, "rounds": options.rounds, "rows": options.rows, "peers": options.peers}
    print(as_text(comparison.found, comparison.why_not(), machine, settings))
    if options.scale == 1.0 and set(options.peers) == set(KEYS):
        store(comparison.found, comparison.why_not(), machine, settings)
    rows = [row for part in comparison.found.values() for row in part.rows]
    is_whole = set(comparison.found) == set(options.rows)
    return 0 if is_whole and all(row.is_met for row in rows) else 1


def _leave(*_: object) -> None:
    """So that what was started is ended, and the end is not disturbed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(143)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the length of each turn, to try it out")
    parser.add_argument("--rounds", type=int, default=NUM_ROUNDS, help="medians of so many turns")
    parser.add_argument("--rows", nargs="+", choices=PARTS, default=list(PARTS), help="which comparisons")
    parser.add_argument("--peers", nargs="+", choices=KEYS, default=KEYS, help="with whom")
    return parser


if __name__ == "__main__":
    sys.exit(main())
