"""What each of Ray Serve's faster ways is worth: the same service with one of them off at a time.

    python -m loadtests.bench.serving_modes --seconds 15 --rounds 3

Embeddings of one short text, each text new, so that every request goes through ingress and encoder.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from pathlib import Path

from deployments.ports import free_port
from loadtests.bench.compare_client import closed_loop, run
from loadtests.bench.compare_servers import Server
from loadtests.bench.compare_workload import questions
from loadtests.bench.http_connection import request_bytes

MODES: dict[str, dict[str, str]] = {
    "as served": {},
    "without HAProxy": {"RAY_SERVE_ENABLE_HA_PROXY": "0"},
    "without throughput mode": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "0"},
    "without gRPC between deployments": {"RAY_SERVE_USE_GRPC_BY_DEFAULT": "0"},
}
WARM_UP_S = 3.0


def main() -> int:
    """Print a table: requests per second, median and p99 for 1 and 64 callers, processor time per request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", nargs="*", default=list(MODES), choices=MODES)
    options = parser.parse_args()
    texts = (f"{text} ({i})" for i, text in enumerate(itertools.cycle(questions(2_000))))
    requests = (request_bytes("/v1/embeddings", {"model": "any", "input": text}) for text in texts)
    print("| mode | callers | requests/s | p50 ms | p99 ms | processor ms a request |\n|---|---|---|---|---|---|")
    for mode in options.modes:
        for row in measured(mode, requests, options.seconds, options.rounds):
            print(f"| {mode} | {row} |", flush=True)
    return 0


def measured(mode: str, requests, span_s: float, num_rounds: int) -> list[str]:
    """Rows of the table, medians of the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(mode, command(mode), {}, Path(folder, "log"), ready_path="/readyz")
        try:
            server.wait_until_ready()
            turns = [(n, one_turn(server, requests, n, span_s)) for _ in range(num_rounds) for n in (1, 64)]
        finally:
            server.stop()
    rows = []
    for num_callers in (1, 64):
        medians = map(statistics.median, zip(*(turn for n, turn in turns if n == num_callers), strict=True))
        rows.append(" | ".join([str(num_callers), *(f"{value:.1f}" for value in medians)]))
    return rows


def one_turn(server: Server, requests, num_callers: int, span_s: float) -> tuple[float, float, float, float]:
    """Requests per second, p50 and p99 in ms, processor milliseconds of the whole service per request."""
    clock, spent_s = server.clock("TextEncoder"), []
    work = closed_loop(
        server.port, requests, num_callers, span_s, WARM_UP_S, look=lambda: spent_s.append(clock()[0])
    )  # fmt: skip
    load = run(work)
    num_done = max(1.0, load.per_s * span_s)
    per_request_ms = 1000 * (spent_s[1] - spent_s[0]) / num_done
    return load.per_s, load.percentile_ms(50), load.percentile_ms(99), per_request_ms


def command(mode: str) -> list[str]:
    """`mmrag serve` with the settings of `mode` above its own."""
    code = (
        "import sys; from deployments import launch; before = launch.environment; "
        f"launch.environment = lambda *a, **k: before(*a, **k) | {MODES[mode]!r}; sys.exit(launch.main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", code, "--port", "{port}", "--metrics-port", str(free_port())]


if __name__ == "__main__":
    sys.exit(main())
