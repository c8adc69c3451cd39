"""The cache in a process, with single flight, and another level behind it where there is one.

Values are content-addressed: the key holds the model's fingerprint and a hash of the input, so a value never
changes and nothing ever has to be invalidated.
"""

import asyncio
import contextvars
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

V = TypeVar("V")
Key = bytes


def embedding_key(fingerprint: str, modality: str, content: bytes) -> Key:
    """SHA-256 over length-prefixed parts, so that no two different inputs share a key."""
    digest = hashlib.sha256()
    for part in (fingerprint.encode(), modality.encode(), content):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


class SecondLevel(Protocol[V]):
    """A cache that several processes share. It never fails: what it cannot do is a miss."""

    counts: dict[str, int]

    async def get(self, keys: Sequence[Key]) -> list[V | None]:
        """The values under `keys`, None where there is none."""

    def put(self, values: dict[Key, V]) -> dict[Key, V]:
        """Store them in the background; returns them as `get` will, so that who computes and who finds agree."""


class EmbeddingCache(Generic[V]):
    """An in-process LRU with single flight: equal inputs that are asked for at once are computed once.

    Args:
        max_entries: entries kept; the least recently used leave first. 0 keeps nothing, single flight remains.
        second: asked, once for each batch, for what is not here.
    """

    def __init__(self, max_entries: int, second: SecondLevel[V] | None = None):
        self._max_entries = max_entries
        self.second = second
        self._entries: OrderedDict[Key, V] = OrderedDict()
        self._in_flight: dict[Key, _Flight[V]] = {}
        self._num_hits = 0
        self._num_second_hits = 0
        self._num_misses = 0

    def counts(self) -> dict[str, int]:
        """Since the start: inputs found in this process, found in Redis, and computed; and how Redis fares."""
        own = {"memory_hits": self._num_hits, "redis_hits": self._num_second_hits, "misses": self._num_misses}
        return own | {f"redis_{name}": number for name, number in self._second_counts().items()}

    def _second_counts(self) -> dict[str, int]:
        return self.second.counts if self.second else {}

    async def get_many(self, keys: Sequence[Key], compute: Callable[[list[int]], Awaitable[Sequence[V]]]) -> list[V]:
        """The values of `keys`, in order.

        Args:
            compute: given the positions (in `keys`) of what is neither cached nor in flight, returns their values.

        What `compute` raises reaches every caller that waits for it, but for those that asked for only some of what it
        was to compute: nobody fails, or waits long, for what others asked for. The computation goes on when the caller
        that started it leaves, as long as another waits.
        """
        wanted = dict.fromkeys(keys)
        found = {key: self._touch(key) for key in wanted if key in self._entries}
        missing = [key for key in wanted if key not in found and not self._is_soon_there(key, len(wanted))]
        self._num_hits += len(keys) - len(missing)
        if missing:
            self._start(keys, missing, compute)
        flights = {self._in_flight[key] for key in wanted if key not in found}
        found |= await self._landed(flights, wanted)
        if lost := [key for key in wanted if key not in found]:
            computed = await self._computed(keys, lost, compute)
            self._keep(computed)
            found |= computed
        return [found[key] for key in keys]

    def _is_soon_there(self, key: Key, num_wanted: int) -> bool:
        flight = self._in_flight.get(key)
        return flight is not None and len(flight.keys) <= num_wanted

    async def _landed(self, flights: "set[_Flight[V]]", wanted: dict[Key, None]) -> dict[Key, V]:
        """What the flights bring; what fails with a stranger's key in it may have failed because of that: nothing."""
        found: dict[Key, V] = {}
        for flight in flights:  # join them all before waiting for any: a flight nobody waits for is cancelled
            flight.num_waiting += 1
        try:
            for flight in flights:
                try:
                    found |= await asyncio.shield(flight.task)
                except Exception:
                    if wanted.keys() >= set(flight.keys):
                        raise
        finally:
            for flight in flights:
                self._leave(flight)
        return found

    def _start(self, keys: Sequence[Key], missing: list[Key], compute: Callable) -> None:
        async def fly() -> dict[Key, V]:
            found = await self._from_second(missing)
            if len(found) < len(missing):
                found |= await self._computed(keys, [key for key in missing if key not in found], compute)
            self._keep(found)
            return found

        flight = _Flight(missing, fly)
        self._in_flight |= dict.fromkeys(missing, flight)
        flight.task.add_done_callback(lambda _: self._land(flight))

    async def _from_second(self, keys: list[Key]) -> dict[Key, V]:
        if self.second is None:
            return {}
        values = await self.second.get(keys)
        found = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        self._num_second_hits += len(found)
        return found

    async def _computed(self, keys: Sequence[Key], absent: list[Key], compute: Callable) -> dict[Key, V]:
        self._num_misses += len(absent)
        first = {key: position for position, key in reversed(list(enumerate(keys)))}
        values = await compute([first[key] for key in absent])
        computed = dict(zip(absent, values, strict=True))
        return self.second.put(computed) if self.second else computed

    def _leave(self, flight: "_Flight[V]") -> None:
        flight.num_waiting -= 1
        if not flight.num_waiting and not flight.task.done():
            self._land(flight)
            flight.task.cancel()

    def _land(self, flight: "_Flight[V]") -> None:
        for key in flight.keys:
            if self._in_flight.get(key) is flight:
                del self._in_flight[key]

    def _touch(self, key: Key) -> V:
        self._entries.move_to_end(key)
        return self._entries[key]

    def _keep(self, computed: dict[Key, V]) -> None:
        if not self._max_entries:
            return
        self._entries.update((key, _of_its_own(value)) for key, value in computed.items())
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


class _Flight(Generic[V]):
    """One computation that several callers may wait for."""

    def __init__(self, keys: list[Key], fly: Callable[[], Awaitable[dict[Key, V]]]):
        self.keys = keys
        self.num_waiting = 0
        # A clean context: the computation may outlive the request that happens to start it.
        self.task = asyncio.get_running_loop().create_task(fly(), context=contextvars.Context())


def _of_its_own(value: V) -> V:
    """An array that is a row of a batch would keep the whole batch in memory."""
    if isinstance(value, np.ndarray):
        return value if value.base is None else value.copy()
    return tuple(_of_its_own(part) for part in value) if isinstance(value, tuple) else value
