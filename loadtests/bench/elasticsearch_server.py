"""Servers for the benchmark, and the ways to make them fail."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

START = Path(__file__).parents[2] / "cluster" / "start-elasticsearch"


class Servers:
    """`cluster/start-elasticsearch` with its nodes' addresses."""

    def __init__(self, process: subprocess.Popen, urls: list[str]):
        self.urls = urls
        self._process = process

    def node(self, number: int) -> psutil.Process:
        """The server process of a node, as it runs now."""
        port = f"node-{number}/"
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                if "org.elasticsearch.bootstrap.Elasticsearch" in command and port in _configuration(process):
                    return process
        raise ProcessLookupError(f"node {number} does not run")


@contextlib.contextmanager
def running(*options: str) -> Iterator[Servers]:
    """Servers that are gone at the end."""
    process = subprocess.Popen([START, *options], stdout=subprocess.PIPE, text=True)
    try:
        urls = process.stdout.readline().strip()
        if not urls:
            raise RuntimeError("Elasticsearch does not start")
        yield Servers(process, urls.split(","))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        process.stdout.close()


def _configuration(process: psutil.Process) -> str:
    return process.environ().get("ES_PATH_CONF", "") + "/"
