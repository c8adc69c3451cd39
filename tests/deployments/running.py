"""`mmrag serve` as a user starts it, for tests of the whole service."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from deployments import processes, run_directory
from deployments.ports import free_port
from mmrag.client import Client
from mmrag.types import Document
from tests.deployments.pictures import png

ROOT = Path(__file__).parents[2]
STOP_TIMEOUT_S = 15
START_TIMEOUT_S = 600  # a deadline for a hopelessly busy machine, not an expectation
ZUBROVIA = Document("zubrovia", "Zubrovia", "Zubrovia is a country. Its capital is Lutzport.", [png()])


class Running:
    """A launcher as a user starts it, with its output."""

    def __init__(self, config: Path, port: int, log: Path):
        self.port, self.url, self._log = port, f"http://127.0.0.1:{port}", log
        command = [sys.executable, "-m", "deployments.launch", "--config", str(config), "--port", str(port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=log.open("w"), stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, words: str) -> None:
        until_s = time.monotonic() + START_TIMEOUT_S
        while words not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < until_s, self.output
            time.sleep(0.2)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal; it ends within the time that is promised, or this raises."""
        self.process.send_signal(number)
        self.process.wait(STOP_TIMEOUT_S)

    def directory(self) -> str:
        marks = run_directory.ROOT.glob(f"{run_directory.PREFIX}*/{run_directory.MARK}")
        [found] = [mark.parent for mark in marks if mark.read_text() == str(self.process.pid)]
        return str(found)


def write_config(folder: Path, models: Path, decoder: dict, **replicas: int) -> Path:
    """The project's own configuration with a tiny image encoder, this decoder and a store of its own in `folder`."""
    written = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    [application] = written["applications"]
    application["args"] |= {
        "image_encoder": {"model": str(models / "image_encoder")},
        "decoder": decoder,
        "retriever": {"path": "knowledge.sqlite"},
    }
    for entry in application["deployments"]:
        entry["num_replicas"] = replicas.get(entry["name"], entry["num_replicas"])
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(written))
    return path


@contextmanager
def service_with_zubrovia(config: Path, folder: Path) -> Iterator[Running]:
    """A service that is ready and knows one document; ended on leaving."""
    running = Running(config, free_port(), folder / "output")
    try:
        running.wait_for("ready at")
        with Client(running.url) as client:
            client.upsert([ZUBROVIA])
        yield running
    finally:
        running.process.terminate()
        running.process.wait(30)


def pids_of(service: Running, name: str) -> list[int]:
    """Processes under the launcher whose command holds `name`."""
    below = processes.descendants_of(service.process.pid)
    return [pid for pid in below if name in processes.command_of(pid, max_chars=1000)]
