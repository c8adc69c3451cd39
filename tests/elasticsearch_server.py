"""A real Elasticsearch for tests, started as a user starts it."""

import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

VERSION = os.environ.get("MMRAG_TEST_ELASTICSEARCH", "8.19.16")
"""The version that the tests are run against; 9.x needs Java 21 or newer."""

START = Path(__file__).parents[1] / "cluster" / "start-elasticsearch"


class ElasticsearchServer:
    """`cluster/start-elasticsearch` and the addresses of its nodes."""

    def __init__(self, *options: str):
        self.process = subprocess.Popen([START, "--version", VERSION, *options], stdout=subprocess.PIPE, text=True)
        self.urls = self.process.stdout.readline().strip().split(",")
        assert self.urls[0].startswith("http://"), "cluster/start-elasticsearch printed no address"

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.urls[0] + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()


@contextlib.contextmanager
def elasticsearch_server(*options: str) -> Iterator[ElasticsearchServer]:
    """One node unless `options` say otherwise; skips only where there is neither Java nor a way to install it."""
    if not shutil.which("java") and not shutil.which("apt-get"):
        pytest.skip("no Java here, and no apt-get to install it")
    server = ElasticsearchServer(*options)
    try:
        yield server
    finally:
        server.stop()
