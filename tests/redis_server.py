"""Real Redis servers for tests, started as a user starts them."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

START = Path(__file__).parents[1] / "cluster" / "start-redis"


class RedisServer:
    """`cluster/start-redis`, its address, and the ways in which a server can fail."""

    def __init__(self, *options: str):
        self.options = options
        self.start()

    def start(self, port: str = "") -> None:
        env = os.environ | {"PORT": port}
        self.process = subprocess.Popen([START, *self.options], env=env, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("redis://"), "cluster/start-redis printed no address"
        self.admin = Redis.from_url(self.url)
        self.pid = self.admin.info("server")["process_id"]

    def restart(self) -> None:
        """Another server at the same address, empty."""
        self.kill()
        self.start(port=self.url.rpartition(":")[2])

    def kill(self) -> None:
        """Gone without a word: connections are reset, new ones refused."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait(10)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Takes connections and answers nothing: a blackhole."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.admin.close()
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """A server for one test, or for all; skips only where there is neither Redis nor a way to install it."""
    if not shutil.which("redis-server") and not shutil.which("apt-get"):
        pytest.skip("no redis-server here, and no apt-get to install it")
    server = RedisServer(*options)
    try:
        yield server
    finally:
        server.stop()
