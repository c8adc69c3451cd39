"""Real processes that hold one decoder together, as tests start them."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmrag.config import DecoderConfig
from mmrag.decoder.engine import Engine
from mmrag.decoder.group import Group, meet_at, meeting_place
from mmrag.decoder.ranks import follow
from mmrag.decoder.worker import Worker
from mmrag.types import Decoded, DecodeRequest

TIMEOUT_S = 120.0  # for a hopelessly busy machine

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["mmrag.decoder.engine", "mmrag.config", "pytest"])  # once, not for each rank


def decode(group: Group | None, directory: Path, requests: list[DecodeRequest]) -> list[Decoded]:
    """What an engine over a checkpoint answers, with its ranks in lockstep; nothing on those after rank 0."""
    config = DecoderConfig(model=str(directory), max_batch=4)
    if group is not None and group.rank > 0:
        follow(Worker.load(config, group), group)
        return []
    engine = Engine.load(config, group)
    jobs = [engine.submit(engine.prepare(request)) for request in requests]
    while engine.step():
        pass
    if group is not None:
        engine.worker.close()
    return [job.decoded for job in jobs]


def on_each_rank(size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(group, *arguments)` returned on each of `size` ranks; an error of a rank is raised here."""
    ranks = [Rank(work, *arguments) for _ in range(size)]
    try:
        ranks[0].start(0, size, None)
        address = ranks[0].hear()
        for rank in range(1, size):
            ranks[rank].start(rank, size, address)
        return [rank.hear() for rank in ranks]
    finally:
        for rank in ranks:
            rank.end()


class Rank:
    """One process, with a pipe to hear what it returns."""

    def __init__(self, work: Callable[..., Any], *arguments: Any):
        self._work, self._arguments = work, arguments
        self._ours, self._theirs = processes.Pipe()
        self.process: Any = None

    def start(self, rank: int, size: int, address: str | None) -> None:
        arguments = (self._theirs, rank, size, address, self._work, *self._arguments)
        self.process = processes.Process(target=_run, args=arguments, daemon=True)
        self.process.start()
        self._theirs.close()

    def hear(self) -> Any:
        assert self._ours.poll(TIMEOUT_S), "a rank said nothing"
        said = self._ours.recv()
        if isinstance(said, Exception):
            raise said
        return said

    def say(self, word: Any) -> None:
        self._ours.send(word)

    def end(self) -> None:
        if self.process is not None:
            self.process.join(10)
            self.process.kill()


def _run(pipe: Any, rank: int, size: int, address: str | None, work: Callable[..., Any], *arguments: Any) -> None:
    import torch

    torch.set_num_threads(1)
    if rank == 0:
        store, address = meeting_place("127.0.0.1")
        pipe.send(address)
    try:
        group = Group(rank, size, store if rank == 0 else meet_at(address))
        pipe.send(work(group, *arguments))
    except Exception as error:
        pipe.send(error)
