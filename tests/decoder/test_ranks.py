"""Ranks in lockstep: what happens when one is lost, and how much memory each needs."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from decoder.ranked import Rank, decode, on_each_rank, processes
from decoder.small import byte_tokenizer
from safetensors.torch import save_file

from mmrag.decoder import DecoderModelConfig, group
from mmrag.decoder.checkpoint import Uninitialized
from mmrag.decoder.model import FusionModel
from mmrag.decoder.ranks import Leader, follow
from mmrag.errors import RankLost, Unavailable
from mmrag.types import DecodeRequest

MIN_CHECKPOINT_BYTES = 200e6


class Adder:
    """Each rank adds its own share to the plan's number; a plan may take a while."""

    def __init__(self, group):
        self.group = group

    def run(self, plan: tuple[float, float]) -> float:
        number, duration_s = plan
        time.sleep(duration_s)
        return number + self.group.sum(torch.tensor([10.0**self.group.rank])).item()


def lead_or_follow(group):
    if group.rank > 0:
        return follow(Adder(group), group)
    leader = Leader(Adder(group), group)
    results = [leader.run((i, 0.0)) for i in range(3)]
    leader.check(timeout_s=30)
    leader.close()
    with pytest.raises(Unavailable, match="closed"):
        leader.run((0, 0.0))
    return results


def test_every_rank_takes_part_and_all_end_together():
    assert on_each_rank(3, lead_or_follow) == [[111.0, 112.0, 113.0], None, None]


def meet_one_that_died(pipe):
    """Rank 0 with one that said it was there, and then ended: what making their group raises."""
    group.JOIN_TIMEOUT_S = 1
    store, _ = group.meeting_place("127.0.0.1")
    store.set("rank 1", "is here")
    with pytest.raises(RuntimeError) as raised:
        group.Group(0, 2, store)
    pipe.send(str(raised.value))


def test_a_rank_that_dies_while_the_group_is_made_is_not_waited_for_like_a_step():
    ours, theirs = processes.Pipe()
    waiting = processes.Process(target=meet_one_that_died, args=(theirs,), daemon=True)
    waiting.start()
    try:
        assert ours.poll(60) and "timeout" in ours.recv()
    finally:
        waiting.kill()


def patience_s(group):
    """How long this rank waits for the next step."""
    group.sum(torch.ones(1))  # rank 0 holds the meeting place: it must not end before the others have met
    return dist.group.WORLD._get_backend(torch.device("cpu")).options._timeout.total_seconds()


def test_ranks_that_met_wait_long_for_something_to_do():
    assert on_each_rank(2, patience_s) == [group.IDLE_TIMEOUT_S] * 2


def lead_into_trouble(group, pipe_is_ready):
    """Rank 0 goes on until a rank is lost; returns what it was told, and how long that took."""
    if group.rank > 0:
        return follow(Adder(group), group)
    leader = Leader(Adder(group), group)
    leader.run((0, 0.0))
    pipe_is_ready.set()
    errors = []
    for _ in range(600):
        try:
            leader.run((0, 0.05))
        except Unavailable as error:
            errors.append(str(error))
            break
    for attempt in (lambda: leader.run((0, 0.0)), lambda: leader.check(1.0)):
        started_s = time.monotonic()
        with pytest.raises(Unavailable):
            attempt()
        assert time.monotonic() - started_s < 5
    return errors


def test_a_killed_rank_ends_the_step_with_a_clear_error_and_the_other_ranks():
    is_ready = processes.Event()
    ranks = [Rank(lead_into_trouble, is_ready) for _ in range(3)]
    try:
        ranks[0].start(0, 3, None)
        address = ranks[0].hear()
        for number in (1, 2):
            ranks[number].start(number, 3, address)
        assert is_ready.wait(120)
        os.kill(ranks[1].process.pid, signal.SIGKILL)
        [error] = ranks[0].hear()
        assert "a rank of the sharded decoder was lost" in error
        ranks[2].process.join(60)
        assert ranks[2].process.exitcode is not None
    finally:
        for rank in ranks:
            rank.end()


def test_a_step_that_fails_here_is_not_taken_for_a_lost_rank():
    class Broken:
        def run(self, plan):
            raise MemoryError("no room")

    leader = Leader(Broken(), SimpleNamespace(broadcast=lambda message: message))
    for _ in range(2):
        with pytest.raises(RankLost, match=r"a step .* failed.*MemoryError\('no room'\)"):
            leader.run(0)


def test_a_step_that_hangs_fails_the_check_but_a_long_queue_of_steps_does_not():
    class Slow:
        def run(self, plan):
            time.sleep(plan)

    class Alone:
        def broadcast(self, message):
            return message

        def sum(self, part):
            return part

    leader = Leader(Slow(), Alone())
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [leader.run(0.05) for _ in range(10_000) if not stop.is_set()])
    busy.start()
    for _ in range(5):
        leader.check(timeout_s=5.0)
    stop.set()
    busy.join()
    hanging = threading.Thread(target=leader.run, args=(1.5,))
    hanging.start()
    time.sleep(0.3)
    with pytest.raises(Unavailable, match="has not ended"):
        leader.check(timeout_s=0.2)
    hanging.join()


@pytest.fixture(scope="module")
def large_checkpoint(tmp_path_factory) -> Path:
    """A T5-small-shaped model of a quarter of a gigabyte, in two files with an index."""
    directory = tmp_path_factory.mktemp("large")
    config = DecoderModelConfig(
        vocab_size=32_128, d_model=512, d_kv=64, d_ff=2_048, num_heads=8, num_layers=6, num_decoder_layers=6
    )
    config.save(directory)
    byte_tokenizer().save(str(directory / "tokenizer.json"))
    with torch.device("meta"), Uninitialized():
        shapes = {name: p.shape for name, p in FusionModel(config).named_parameters()}
    names, weight_map = sorted(shapes), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: torch.full(shapes[name], 0.01) for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return directory


def peak_bytes(group, directory: Path) -> int:
    """What loading a share and answering once adds at most to the memory of this process."""
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark so far
    decode(group, directory, [DecodeRequest("hello", None, None, None, [], max_new_tokens=2)])
    return status_bytes("VmHWM") - before


def status_bytes(name: str) -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def test_each_of_two_ranks_needs_at_most_six_tenths_of_the_memory(large_checkpoint):
    size = sum(path.stat().st_size for path in large_checkpoint.glob("*.safetensors"))
    assert size >= MIN_CHECKPOINT_BYTES
    [whole] = on_each_rank(1, peak_bytes, large_checkpoint)
    shares = on_each_rank(2, peak_bytes, large_checkpoint)
    assert whole > 0.9 * size  # else this measures something else
    assert max(shares) <= 0.6 * whole, f"{shares} of {whole}"
