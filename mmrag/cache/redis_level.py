"""Redis behind the cache of each process: what one has computed, all of them find.

A failure here is a miss and never an error. Every call ends within `timeout_ms`, and a Redis that fails again and
again is left alone for a while.
"""

import asyncio
import contextvars
import logging
import os
from collections.abc import Sequence
from typing import Any

from mmrag.cache.embedding_cache import EmbeddingCache, Key
from mmrag.cache.packing import Embedding, pack, unpack
from mmrag.circuit_breaker import CircuitBreaker
from mmrag.config import CacheConfig
from mmrag.errors import ConfigurationError

log = logging.getLogger(__name__)

URL_VARIABLE = "MMRAG_REDIS_URL"
KEY_PREFIX = b"mmrag:embedding:"
KEY_BYTES = 32
"""A key is a SHA-256 digest."""

MAX_KEYS_PER_CALL = 256
MAX_BYTES_PER_CALL = 2**20
MAX_WAITING_BYTES = 32 * 2**20
"""What may wait to be written: beyond it nothing is, for a Redis that cannot keep up must cost nothing here."""


def open_cache(config: CacheConfig) -> EmbeddingCache[Embedding]:
    """The cache that `config` describes, with Redis behind it where its address is given, there or in MMRAG_REDIS_URL.

    Raises:
        ConfigurationError: the address is none.
    """
    url = config.redis_url or os.environ.get(URL_VARIABLE)
    return EmbeddingCache(config.max_entries, RedisLevel(url, config) if url else None)


class RedisLevel:
    """One plain string for each embedding; see `mmrag.cache.packing`. Used on event loops only, one at a time.

    Raises:
        ConfigurationError: `url` is none that Redis could have.
    """

    def __init__(self, url: str, config: CacheConfig = CacheConfig()):
        _check(url)
        self._url = url
        self._config = config
        self._timeout_s = config.timeout_ms / 1000
        self._reading, self._writing = CircuitBreaker(), CircuitBreaker()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[Any] = []
        self._writer: asyncio.Task | None = None
        self._waiting: dict[Key, bytes] = {}
        self._num_waiting_bytes = 0
        self.counts = {"errors": 0, "garbage": 0, "written": 0, "not_written": 0}

    async def get(self, keys: Sequence[Key]) -> list[Embedding | None]:
        """The embeddings stored under `keys`, None for each that is not there or could not be had in time."""
        if len(keys) <= MAX_KEYS_PER_CALL:
            return await self._get(keys)
        parts = [keys[start : start + MAX_KEYS_PER_CALL] for start in range(0, len(keys), MAX_KEYS_PER_CALL)]
        return [embedding for part in parts for embedding in await self._get(part)]

    def put(self, embeddings: dict[Key, Embedding]) -> dict[Key, Embedding]:
        """Store `embeddings`, without waiting for it; returns them as `get` will: in half precision."""
        keys = list(embeddings)
        blobs = [pack(key, embeddings[key]) for key in keys]
        self._enter_loop()
        for key, blob in zip(keys, blobs, strict=True):
            self._wait(key, blob)
        if self._waiting and (self._writer is None or self._writer.done()):
            # A clean context: it writes for many callers, and must not end with one of them.
            self._writer = asyncio.create_task(self._write_all(), context=contextvars.Context())
        return dict(zip(keys, unpack(keys, blobs), strict=True))

    async def flush(self) -> None:
        """Wait until what was put is written, or given up."""
        self._enter_loop()
        if self._writer is not None:
            await asyncio.wait([self._writer])

    async def close(self) -> None:
        """Close the connections; used again, it opens new ones."""
        await self.flush()
        for connection in self._idle:
            await connection.disconnect()
        await self._redis.aclose()
        self._loop = None

    def _enter_loop(self) -> None:
        # Connections belong to an event loop. The service has one; the command line may use one after the other.
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._redis = _connect(self._url, self._config)
            # redis-py's own pool looks at each connection before each call, which takes as long as half the call.
            self._free, self._idle = asyncio.Semaphore(self._config.max_connections), []
            self._writer = None

    async def _get(self, keys: Sequence[Key]) -> list[Embedding | None]:
        if not self._reading.allows():
            return [None] * len(keys)
        self._enter_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                blobs = await self._mget(keys)
        except Exception as error:
            self._note_failure(self._reading, "read", error)
            return [None] * len(keys)
        self._reading.succeeded()
        found = unpack(keys, blobs)
        self.counts["garbage"] += sum(embedding is None for embedding in found) - blobs.count(None)
        return found

    async def _mget(self, keys: Sequence[Key]) -> list[bytes | None]:
        if self._config.redis_cluster:  # one MGET for each slot, in one go to each node
            return await self._redis.mget_nonatomic([KEY_PREFIX + key for key in keys])
        async with self._free:
            return await self._ask(_mget_command(keys))

    async def _ask(self, command: bytes) -> Any:
        from redis.exceptions import ConnectionError

        connection = self._idle.pop() if self._idle else self._redis.connection_pool.make_connection()
        try:
            try:
                await connection.send_packed_command(command)
                return await connection.read_response()
            except ConnectionError:  # Redis was restarted, and this connection is of before
                await connection.send_packed_command(command)
                return await connection.read_response()
        finally:  # what was cut off in the middle, redis-py has closed, and opens anew
            self._idle.append(connection)

    def _wait(self, key: Key, blob: bytes) -> None:
        if self._num_waiting_bytes + len(blob) > MAX_WAITING_BYTES:
            self.counts["not_written"] += 1
        elif key not in self._waiting:
            self._waiting[key] = blob
            self._num_waiting_bytes += len(blob)

    async def _write_all(self) -> None:
        while self._waiting:
            batch = self._take_waiting()
            num_written = await self._write(batch) if self._writing.allows() else 0
            self.counts["written"] += num_written
            self.counts["not_written"] += len(batch) - num_written

    def _take_waiting(self) -> dict[Key, bytes]:
        batch: dict[Key, bytes] = {}
        num_bytes = 0
        while self._waiting and len(batch) < MAX_KEYS_PER_CALL and num_bytes < MAX_BYTES_PER_CALL:
            key = next(iter(self._waiting))
            batch[key] = self._waiting.pop(key)
            num_bytes += len(batch[key])
        self._num_waiting_bytes -= num_bytes
        return batch

    async def _write(self, batch: dict[Key, bytes]) -> int:
        pipeline = self._redis.pipeline(**({} if self._config.redis_cluster else {"transaction": False}))
        for key, blob in batch.items():
            pipeline.set(KEY_PREFIX + key, blob, ex=self._config.ttl_s)
        try:
            async with asyncio.timeout(self._timeout_s):
                replies = await pipeline.execute(raise_on_error=False)
        except Exception as error:
            self._note_failure(self._writing, "written", error)
            return 0
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        if refused:  # out of memory, or a replica
            self._note_failure(self._writing, "written", refused[0])
        else:
            self._writing.succeeded()
        return len(batch) - len(refused)

    def _note_failure(self, breaker: CircuitBreaker, what: str, error: Exception) -> None:
        was_open = breaker.is_open
        breaker.failed()
        self.counts["errors"] += 1
        if breaker.is_open and not was_open:
            log.warning("Redis cannot be %s, and is left alone for a while: %s %s", what, type(error).__name__, error)


def _mget_command(keys: Sequence[Key]) -> bytes:
    """MGET as it goes over the wire. redis-py would build it name by name, in a third of the time of the whole call."""
    before_each = b"\r\n$%d\r\n" % (len(KEY_PREFIX) + KEY_BYTES) + KEY_PREFIX
    return b"*%d\r\n$4\r\nMGET" % (len(keys) + 1) + before_each + before_each.join(keys) + b"\r\n"


def _check(url: str) -> None:
    from redis.connection import parse_url

    try:
        parse_url(url)
    except ValueError as error:  # it may name a password, so the address itself is not repeated
        raise ConfigurationError(f"cache.redis_url ({URL_VARIABLE}) is no address of a Redis: {error}") from None


def _connect(url: str, config: CacheConfig) -> Any:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.cluster import RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError

    timeout_s = config.timeout_ms / 1000
    # No time-out of single reads: each call as a whole has one, and a second one within costs as much as it all.
    bounds = {"socket_timeout": None, "socket_connect_timeout": timeout_s, "max_connections": config.max_connections}
    if config.redis_cluster:
        return RedisCluster.from_url(url, **bounds)
    # Once more at once, but only where the connection was lost: a Redis that was restarted closed all of them.
    retry = Retry(NoBackoff(), 1, supported_errors=(ConnectionError,))
    return Redis.from_pool(BlockingConnectionPool.from_url(url, timeout=timeout_s, retry=retry, **bounds))
