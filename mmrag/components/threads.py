"""Threads for what would block the event loop, and the cores that they use."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

_STARTING = threading.Lock()


class Threads:
    """Run work outside the event loop, as many pieces at a time as there are threads."""

    def __init__(self, name: str, count: int = 1, on_start: Callable[[], None] = lambda: None):
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=on_start)

    async def run(self, work: Callable[[A], B], argument: A) -> B:
        """What `work(argument)` returns."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, argument)


def use_one_core() -> None:
    """Products in the calling thread use one core; those of other threads use as many as before."""
    import torch

    with _STARTING:
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # for this thread, and for those that have not computed anything yet
        restore = threading.Thread(target=torch.set_num_threads, args=[before])
        restore.start()
        restore.join()


def use_threads(num_threads: int | None) -> None:
    """Products in this process use so many cores; as many as PyTorch takes where None."""
    if num_threads:
        import torch

        torch.set_num_threads(num_threads)
