"""Calls to a deployment, with Ray's errors turned into ours."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from mmrag.batching import Batcher
from mmrag.errors import DeadlineExceeded, MmragError, Overloaded, RankLost, Unavailable

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""A call that takes longer is not yet suspect, but it is asked whether anybody works on it."""

PING_TIMEOUT_S = 3.0
PROBE_INTERVAL_S = 0.5

RETRY_DELAY_S = 0.8
"""Where one process of a replica is lost, the others end meanwhile, and are called no more."""

_LOST_REPLICA = (RayActorError, grpc.aio.AioRpcError, TaskCancelledError, RankLost)


class RemotePart:
    """One deployment as its callers see it: calls that answer, or raise one of `mmrag.errors`, in bounded time.

    Serve lets a call wait for ever while a deployment has no replica. Here a call that takes long is accompanied by
    pings; when nobody answers them, this call and those after it fail at once with Unavailable, until a ping in the
    background is answered again.
    """

    _batcher: Batcher

    @property
    def num_waiting(self) -> int:
        """Calls in the queue in front of it."""
        return self._batcher.num_waiting

    @property
    def num_replicas(self) -> int:
        """Replicas that calls are shared among by now, as far as Ray lets it be known: 1 before the first call."""
        router = getattr(getattr(self._handle, "_router", None), "_asyncio_router", None)
        return max(1, len(getattr(getattr(router, "request_router", None), "curr_replicas", ())))

    def __init__(self, handle: DeploymentHandle, name: str):
        self._handle = handle
        self.name = name
        self._probe: asyncio.Task | None = None

    async def call(self, method: str, *arguments: Any, done: tuple[type[MmragError], ...] = ()) -> Any:
        """Call `method`; once more where its replica is lost on the way, so it must bear being done twice.

        `done`: what the second call raises where the first had done the work before it was lost; then None.
        """
        try:
            return await self._call(method, arguments)
        except _LOST_REPLICA as error:
            await self._turn_to_another(error)
        try:
            return await self._call(method, arguments)
        except done:
            return None
        except RankLost:
            raise
        except _LOST_REPLICA as error:
            raise self._down() from error

    async def pieces(self, method: str, *arguments: Any) -> AsyncIterator[Any]:
        """What `method` yields; from another replica, once, where the first is lost before it has yielded anything.

        Nothing is sent twice: a replica lost later ends the stream with Unavailable.
        """
        for is_last_try in (False, True):
            has_begun = False
            try:
                async with aclosing(self._pieces(method, arguments)) as pieces:
                    async for piece in pieces:
                        has_begun = True
                        yield piece
                return
            except _LOST_REPLICA as error:
                if has_begun or is_last_try:
                    raise Unavailable(f"the {self.name} was lost while it answered; ask again") from error
                await self._turn_to_another(error)

    async def _turn_to_another(self, error: Exception) -> None:
        log.warning("%s: a replica was lost (%s); calling another one", self.name, error)
        if isinstance(error, RankLost):
            await asyncio.sleep(RETRY_DELAY_S)

    async def _pieces(self, method: str, arguments: tuple) -> AsyncGenerator[Any, None]:
        pieces = self._method(method, is_stream=True).remote(*arguments)
        try:
            while True:
                try:
                    piece = await self._accompanied(anext(pieces))
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            pieces.cancel()

    async def is_alive(self) -> bool:
        """Whether any replica answers."""
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self._handle.ping.remote()
            return True
        except BackPressureError:  # somebody has much to do
            return True
        except Exception:
            return False

    async def _call(self, method: str, arguments: tuple) -> Any:
        if self._probe is not None:
            raise Unavailable(f"the {self.name} does not answer")
        return await self._accompanied(self._method(method).remote(*arguments))

    def _method(self, method: str, is_stream: bool = False) -> DeploymentHandle:
        return self._handle.options(method_name=method, stream=is_stream)

    async def _accompanied(self, response) -> Any:
        task = asyncio.ensure_future(_ours(response))
        task.add_done_callback(_seen)
        try:
            while not (await asyncio.wait({task}, timeout=PATIENCE_S))[0]:
                if not await self.is_alive() and not task.done():
                    raise self._down()
            return task.result()
        finally:
            task.cancel()

    def _down(self) -> Unavailable:
        if self._probe is None:
            log.error("%s is down", self.name)
            self._probe = asyncio.get_running_loop().create_task(self._wait_for_life(), context=contextvars.Context())
        return Unavailable(f"the {self.name} does not answer")

    async def _wait_for_life(self) -> None:
        while not await self.is_alive():
            await asyncio.sleep(PROBE_INTERVAL_S)
        log.warning("%s is back", self.name)
        self._probe = None


def _seen(task: asyncio.Task) -> None:
    # Where the caller has gone nobody asks what became of the call, and asyncio would log it as an error.
    if not task.cancelled():
        task.exception()


async def _ours(response) -> Any:
    try:
        return await response
    except RayTaskError as error:
        # Ray wraps what a replica raised; the cause is the error that we know.
        raise (error.cause if isinstance(error.cause, MmragError) else error) from None
    except BackPressureError as error:
        raise Overloaded(str(error), retry_after_s=error.retry_after_s or 1.0) from error
    except DeploymentUnavailableError as error:
        raise Unavailable(str(error)) from error
    except GetTimeoutError as error:
        raise DeadlineExceeded(str(error)) from error
