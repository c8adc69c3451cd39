"""The service under load: the one that runs, or one started for the occasion and ended after it."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 600
STOP_TIMEOUT_S = 60
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


class NoService(Exception):
    """There is no service to test, and none could be started."""


@contextlib.contextmanager
def service_at(url: str, log: Path) -> Iterator[bool]:
    """A service that is ready at `url`; yields whether it was started for this, in which case it is ended after.

    Raises NoService.
    """
    if is_ready(url):
        print(f"a service runs at {url}: testing that", flush=True)
        yield False
        return
    host, port = urllib.parse.urlsplit(url).hostname, urllib.parse.urlsplit(url).port
    if host not in LOCAL_HOSTS or port is None:
        raise NoService(f"no service answers at {url}, and one can only be started on this machine")
    print(f"no service runs at {url}: starting one, and ending it afterwards (its output: {log})", flush=True)
    started = _start(port, log)
    try:
        _wait(url, started, log)
        yield True
    finally:
        print("ending the service", flush=True)
        started.terminate()
        started.wait(STOP_TIMEOUT_S)


def is_ready(url: str) -> bool:
    """Whether /readyz says yes."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _start(port: int, log: Path) -> subprocess.Popen:
    # A session of its own: Ctrl-C ends the load, and the report is still written before the service goes.
    command = [sys.executable, "-m", "mmrag.cli", "serve", "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("w") as output:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _wait(url: str, started: subprocess.Popen, log: Path) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    while not is_ready(url):
        if started.poll() is not None or time.monotonic() > until_s:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise NoService(f"the service did not start:\n{last}")
        time.sleep(0.5)
