"""Elasticsearch and Redis as we use them: recall, search, ingest and cache against plain clients; faults under load.

make bench SUITE=retrieval            the whole, about 25 minutes
make bench SUITE=retrieval SCALE=0.02 to try it out
"""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from loadtests.bench import (
    cache,
    retrieval_faults,
    retrieval_ingest,
    retrieval_nodes,
    retrieval_recall,
    retrieval_search,
)
from loadtests.bench.elasticsearch_server import running
from loadtests.bench.redis_server import running_redis
from loadtests.bench.retrieval_data import Glosses
from loadtests.bench.rows import Row, as_markdown
from loadtests.machine import describe

RESULTS = Path(__file__).parents[1] / "results"
NUM_GLOSSES = 100_000
PARTS = ("recall", "search", "ingest", "cache", "faults", "nodes")


class _Shown(list[Row]):
    """Rows that are told as they come: the whole takes long."""

    def __iadd__(self, rows: Iterable[Row]) -> "_Shown":
        for row in rows:
            print(f"{'' if row.is_met else 'MISSED '}{row}", file=sys.stderr, flush=True)
            self.append(row)
        return self


def measure(options: argparse.Namespace) -> list[Row]:
    """The rows of the parts that are asked for; servers are started for them, and ended."""
    scale, found = options.scale, _Shown()
    if "cache" in options.parts:
        found += asyncio.run(cache.rows(num_rounds=max(200, round(3_000 * scale))))
    if options.parts == ["cache"]:
        return found
    glosses = Glosses(max(1_000, round(NUM_GLOSSES * scale)))
    few = Glosses(max(500, round(10_000 * scale)))
    seconds = max(1.0, 10 * min(1.0, scale * 5))
    server = ["--version", options.version, "--heap", options.heap]
    if {"recall", "search", "ingest"} & set(options.parts):
        with running(*server) as servers:
            [url] = servers.urls
            if "recall" in options.parts:
                found += asyncio.run(retrieval_recall.rows(url, glosses))
            if "search" in options.parts:
                found += asyncio.run(retrieval_search.rows(url, glosses, seconds, num_rounds=5))
            if "ingest" in options.parts:
                found += asyncio.run(retrieval_ingest.rows(url, glosses))
    if "faults" in options.parts:
        with running(*server, "--restart-after", "3") as servers, running_redis() as redis:
            found += asyncio.run(retrieval_faults.rows(servers, redis, few, 2 * seconds))
    if "nodes" in options.parts:
        three = [*server[:2], "--heap", "512m", "--nodes", "3", "--restart-after", "5"]
        with running(*three) as servers, running_redis() as redis:
            found += asyncio.run(retrieval_nodes.rows(servers, redis, few, 2 * seconds))
    return found


def main() -> int:
    """Measure, print, write down; 1 when a must is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of documents and the time")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--version", default="8.19.16", help="of Elasticsearch")
    parser.add_argument("--heap", default="2g", help="of a single node")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    machine = describe()
    rows = measure(options)
    settings = vars(options) | {"elasticsearch-py": version("elasticsearch"), "redis-py": version("redis")}
    text = as_markdown("Retrieval in Elasticsearch, embeddings in Redis", rows, machine, settings)
    print(text)
    if options.scale == 1.0 and tuple(options.parts) == PARTS:
        RESULTS.mkdir(exist_ok=True)
        content = {"machine": machine, "settings": settings, "rows": [asdict(row) for row in rows]}
        (RESULTS / "retrieval.json").write_text(json.dumps(content, indent=1) + "\n")
        (RESULTS / "retrieval.md").write_text(text)
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
