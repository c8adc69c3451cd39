"""Processes of this machine, as /proc shows them: who holds a port, who belongs to a run, and how to end those."""

import contextlib
import ctypes
import errno
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
_LISTEN = "0A"


@dataclass(frozen=True)
class Process:
    """A process id with its command line, for people to read."""

    pid: int
    command: str


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none gets lost."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def let_others_finish_their_slice() -> None:
    """This process, and those it starts, wait for a busy core's next turn, where each arriving byte would interrupt a
    model at once: its caches stay warm, and an event loop finds more to do at a time. An idle core answers at once.
    Where a sandbox does not allow it, all goes on as before."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def is_port_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises OSError where the address itself is no good."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def holder_of(port: int) -> Process | None:
    """The process that listens on `port`; None where it belongs to somebody else's account."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for pid in _pids():
        if sockets.intersection(_open_files(pid)):
            return Process(pid, command_of(pid))
    return None


def listening_addresses(pid: int) -> set[str]:
    """The IPv4 addresses at which a process listens."""
    sockets = set(_open_files(pid))
    rows = [line.split() for line in _read("/proc/net/tcp").decode().splitlines()[1:]]
    mine = [row[1].partition(":")[0] for row in rows if row[3] == _LISTEN and f"socket:[{row[9]}]" in sockets]
    return {socket.inet_ntoa(bytes.fromhex(address)[::-1]) for address in mine}


def descendants_of(ancestor: int) -> list[int]:
    """All processes below `ancestor`, zombies included."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        children.setdefault(parent_of(pid), []).append(pid)
    found: list[int] = []
    waiting = [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def belonging_to(directory: str) -> list[int]:
    """Processes that were started with, or hold open, something of a run's `directory`."""
    needle = directory.encode()
    return [pid for pid in _pids() if pid != os.getpid() and _mentions(pid, needle)]


def end(pids: Iterable[int]) -> None:
    """Kill processes."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_descendants(timeout_s: float = 5.0) -> None:
    """Kill all processes below this one and wait until they are gone, zombies too. Needs `adopt_orphans`."""
    until_s = time.monotonic() + timeout_s
    while (descendants := descendants_of(os.getpid())) and time.monotonic() < until_s:
        end(descendants)
        reap()
        time.sleep(0.02)


def reap() -> None:
    """Take leave of children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    return _status(pid).get("State", "Z")[:1] not in ("Z", "X")


def parent_of(pid: int) -> int:
    """The parent's process id; 0 where there is none."""
    return int(_status(pid).get("PPid", 0))


def blocks_signal(pid: int, signal_number: int) -> bool:
    """Whether the process keeps `signal_number` back right now, as it does while it handles it."""
    return bool(int(_status(pid).get("SigBlk", "0"), 16) >> (signal_number - 1) & 1)


def machine_load() -> str:
    """How busy this machine is, in words."""
    load, num_cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    described = f"{load:.1f} processes share {num_cores} cores"
    return f"this machine is overloaded ({described})" if load > 1.5 * num_cores else described


def name_of(pid: int) -> str:
    """The name of its program, of up to 15 characters; "" where there is no such process."""
    return _status(pid).get("Name", "")


def command_of(pid: int, max_chars: int = 100) -> str:
    """The command line, shortened for people to read."""
    words = _read(f"/proc/{pid}/cmdline").decode(errors="replace").replace("\0", " ").split()
    line = " ".join(words) or _status(pid).get("Name", "?")
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"


def _mentions(pid: int, needle: bytes) -> bool:
    # Ray renames its workers, which overwrites their command line and sometimes their environment.
    if needle in _read(f"/proc/{pid}/environ") or needle in _read(f"/proc/{pid}/cmdline"):
        return True
    return any(needle in name.encode() for name in _open_files(pid))


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _read(table).decode().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _open_files(pid: int) -> Iterator[str]:
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            yield os.readlink(link)
    except OSError:  # it ended, or is not ours
        return


def _status(pid: int) -> dict[str, str]:
    lines = _read(f"/proc/{pid}/status").decode(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
