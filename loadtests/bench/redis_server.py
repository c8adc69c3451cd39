"""A Redis for the benchmark, and the ways to make it fail."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

START = Path(__file__).parents[2] / "cluster" / "start-redis"


class RedisServer:
    """`cluster/start-redis` and its address, which stays the same."""

    def __init__(self) -> None:
        self.start()

    def start(self, port: str = "") -> None:
        environment = os.environ | {"PORT": port}
        self._process = subprocess.Popen([START], env=environment, stdout=subprocess.PIPE, text=True)
        self.url = self._process.stdout.readline().strip()
        [self._server] = psutil.Process(self._process.pid).children()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._process.stdout.close()

    def start_again(self) -> None:
        """Empty, at the same address."""
        self.start(port=self.url.rpartition(":")[2])

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Takes connections, and answers nothing."""
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    """A server that is gone at the end."""
    server = RedisServer()
    try:
        yield server
    finally:
        server.stop()
