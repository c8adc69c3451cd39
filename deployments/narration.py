"""What `mmrag serve` says while it works, in the launcher and in the service's own process."""

import os
import time

_STARTED_S = "MMRAG_STARTED_S"


def begin() -> None:
    """The seconds count from now, in this process and in those that it starts."""
    os.environ[_STARTED_S] = str(time.time())


def say(text: str) -> None:
    """One line about what is happening, with the seconds since the start."""
    elapsed_s = time.time() - float(os.environ[_STARTED_S])
    print(f"{elapsed_s:6.1f} s  {text}", flush=True)
