"""What a caller of a deployment gets when replicas die, hang, refuse, or raise."""

import asyncio
import gc
import time
from types import SimpleNamespace

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments import remote_calls
from deployments.remote import MAX_TEXTS_PER_CALL, RemoteDecoder, RemoteRetriever, RemoteTextEncoder
from deployments.remote_calls import RemotePart
from mmrag.config import DecoderConfig, RetrieverConfig, TextEncoderConfig
from mmrag.errors import DeadlineExceeded, InvalidRequest, NotFound, Overloaded, RankLost, Unavailable
from mmrag.types import Decoded, DecodeRequest


class Handle:
    """A deployment handle whose replicas do as they are told, one outcome after the other; the last one stays."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.alive = True
        self.num_calls = 0
        self.num_cancelled = 0

    def options(self, method_name: str, stream: bool) -> "Handle":
        return self

    def remote(self, *arguments):
        self.num_calls += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        return self._respond(outcome)

    @property
    def ping(self) -> "Ping":
        return Ping(self)

    async def _respond(self, outcome):
        try:
            if isinstance(outcome, float):
                await asyncio.sleep(outcome)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise


class Ping:
    def __init__(self, handle: Handle):
        self.handle = handle

    async def remote(self):
        if isinstance(self.handle.alive, Exception):
            raise self.handle.alive
        if not self.handle.alive:
            await asyncio.sleep(1_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(remote_calls, "PATIENCE_S", 0.05)
    monkeypatch.setattr(remote_calls, "RETRY_DELAY_S", 0.01)
    monkeypatch.setattr(remote_calls, "PING_TIMEOUT_S", 0.05)
    monkeypatch.setattr(remote_calls, "PROBE_INTERVAL_S", 0.01)


def raised_by_a_replica(cause: Exception) -> Exception:
    return RayTaskError("embed", "traceback", cause).as_instanceof_cause()


async def test_a_lost_replica_is_called_again_once():
    handle = Handle(ActorDiedError(), "answer")
    assert await RemotePart(handle, "part").call("embed") == "answer"
    assert handle.num_calls == 2


async def test_a_replica_that_lost_a_rank_is_turned_from_once():
    lost = raised_by_a_replica(RankLost("a rank was lost"))
    assert await RemotePart(Handle(lost, "answer"), "part").call("decode") == "answer"
    with pytest.raises(RankLost, match="a rank was lost"):
        await RemotePart(Handle(lost), "part").call("decode")


async def test_a_deletion_that_was_done_before_its_replica_was_lost_is_no_error():
    gone = raised_by_a_replica(NotFound("there is no document 'a'"))
    await RemoteRetriever(Handle(ActorDiedError(), gone), RetrieverConfig()).delete("tenant", "a")
    with pytest.raises(NotFound):
        await RemoteRetriever(Handle(gone), RetrieverConfig()).delete("tenant", "a")


async def test_an_answer_that_nobody_waits_for_any_more_is_not_asked_for():
    handle = Decoding(0.1)
    decoder = RemoteDecoder(handle, DecoderConfig(max_batch=1))
    busy = [asyncio.create_task(decoder.decode([question(time.time() + 60)])) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(DeadlineExceeded):
        await decoder.decode([question(time.time() + 0.02)])
    await asyncio.gather(*busy)
    assert handle.num_calls == len(busy)


async def test_an_answer_fails_and_is_given_up_alone():
    handle = Decoding(0.1, DeadlineExceeded("its time was over"), 0.1)
    decoder = RemoteDecoder(handle, DecoderConfig())
    left, failed, kept = (asyncio.create_task(decoder.decode([question(time.time() + 60)])) for _ in range(3))
    await asyncio.sleep(0.01)
    left.cancel()
    with pytest.raises(DeadlineExceeded):
        await failed
    assert (await kept)[0].text == "after 0.1 s"
    assert (handle.num_calls, handle.num_cancelled) == (3, 1)


async def test_a_call_that_fails_after_its_caller_has_gone_is_no_error_in_the_log():
    class Cancelled(Handle):
        """As Ray's: who cancels is answered by an error of its own."""

        async def _respond(self, outcome):
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                raise ValueError("cancelled") from None

    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    call = asyncio.create_task(RemotePart(Cancelled(None), "part").call("method"))
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait({call})
    del call
    await asyncio.sleep(0.01)
    gc.collect()
    assert complaints == []


class Decoding(Handle):
    async def _respond(self, outcome):
        return [Decoded(f"after {await super()._respond(outcome)} s")]


def question(deadline_s: float) -> DecodeRequest:
    return DecodeRequest("a", None, None, None, [], deadline_s=deadline_s)


class Streaming(Handle):
    """Each outcome is what one stream yields; an error in it is raised there."""

    def _respond(self, outcome) -> "Stream":
        return Stream(outcome)


class Stream:
    def __init__(self, outcome: list):
        self.outcome = list(outcome)

    def __anext__(self):
        async def following():
            if not self.outcome:
                raise StopAsyncIteration
            if isinstance(self.outcome[0], Exception):
                raise self.outcome[0]
            return self.outcome.pop(0)

        return following()

    def cancel(self) -> None:
        pass


async def test_a_stream_is_begun_again_only_while_nothing_was_sent():
    lost = raised_by_a_replica(RankLost("a rank was lost"))
    handle = Streaming([lost], ["a", "b"])
    assert [piece async for piece in RemotePart(handle, "part").pieces("stream")] == ["a", "b"]
    handle, seen = Streaming(["a", lost], ["a", "b"]), []
    with pytest.raises(Unavailable, match="part was lost while it answered"):
        async for piece in RemotePart(handle, "part").pieces("stream"):
            seen.append(piece)
    assert seen == ["a"]
    assert handle.num_calls == 1
    handle = Streaming([ActorDiedError()], [lost])
    with pytest.raises(Unavailable):
        [piece async for piece in RemotePart(handle, "part").pieces("stream")]
    assert handle.num_calls == 2


async def test_a_slow_replica_is_waited_for_while_it_lives():
    assert await RemotePart(Handle(0.3), "part").call("embed") == 0.3


async def test_a_deployment_without_replicas_fails_fast_and_is_found_again():
    handle = Handle(1_000.0)
    handle.alive = False
    part = RemotePart(handle, "part")
    with pytest.raises(Unavailable, match="part"):
        await part.call("embed")
    await asyncio.sleep(0.01)
    assert handle.num_cancelled == 1
    with pytest.raises(Unavailable):
        await part.call("embed")
    assert handle.num_calls == 1  # the second did not even try
    handle.alive, handle.outcomes = True, ["answer"]
    await asyncio.sleep(0.2)
    assert await part.call("embed") == "answer"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (BackPressureError(5, 5, 429, 2.5), Overloaded),
        (raised_by_a_replica(Overloaded("full", 7.0)), Overloaded),
        (raised_by_a_replica(InvalidRequest("bad", "text")), InvalidRequest),
        (DeploymentUnavailableError("part"), Unavailable),
        (ActorDiedError(), Unavailable),
    ],
)
async def test_errors_of_ray_become_ours(raised, expected):
    with pytest.raises(expected) as caught:
        await RemotePart(Handle(raised), "part").call("embed")
    assert type(caught.value) is expected
    if expected is InvalidRequest:
        assert caught.value.param == "text"
    if expected is Overloaded:
        assert caught.value.retry_after_s in (2.5, 7.0)


def test_this_ray_keeps_the_replicas_where_they_are_counted():
    from ray.serve._private.router import AsyncioRouter, CurrentLoopRouter
    from ray.serve.handle import DeploymentHandle
    from ray.serve.request_router import RequestRouter

    assert "_router" in DeploymentHandle._init.__code__.co_names
    assert "_asyncio_router" in CurrentLoopRouter.__init__.__code__.co_names
    assert isinstance(AsyncioRouter.request_router, property) and isinstance(RequestRouter.curr_replicas, property)
    router = SimpleNamespace(request_router=SimpleNamespace(curr_replicas={"a": 1, "b": 2}))
    handle = SimpleNamespace(_router=SimpleNamespace(_asyncio_router=router))
    assert RemotePart(handle, "part").num_replicas == 2
    assert RemotePart(SimpleNamespace(), "part").num_replicas == 1  # before the first call


async def test_a_caller_who_leaves_cancels_the_call():
    handle = Handle(1_000.0)
    task = asyncio.create_task(RemotePart(handle, "part").call("embed"))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert handle.num_cancelled == 1


class EmbeddingHandle(Handle):
    """Embeds a text as its length, every call in a moment, and notes what came."""

    def __init__(self):
        super().__init__(None)
        self.calls: list[list[str]] = []

    def remote(self, texts: list[str]):
        self.calls.append(texts)
        return self._embed(texts)

    async def _embed(self, texts: list[str]) -> np.ndarray:
        await asyncio.sleep(0.01)
        return np.array([[len(text)] for text in texts], np.float32)


async def test_a_question_does_not_wait_for_all_of_a_large_request():
    handle = EmbeddingHandle()
    encoder = RemoteTextEncoder(handle, TextEncoderConfig())
    texts = ["x" * (1 + i % 50) for i in range(20 * MAX_TEXTS_PER_CALL)]
    large = asyncio.create_task(encoder.embed(texts))
    while len(handle.calls) < 2:
        await asyncio.sleep(0)
    assert await encoder.embed(["a question"]) == [[10]]
    assert len(handle.calls) < 6
    np.testing.assert_array_equal((await large)[:, 0], [len(text) for text in texts])


async def test_large_requests_get_their_turn_while_others_wait():
    handle = EmbeddingHandle()
    encoder = RemoteTextEncoder(handle, TextEncoderConfig(max_queued_texts=256))
    large = [["x"] * (4 * 256) for _ in range(3)]
    found = await asyncio.gather(*map(encoder.embed, large))
    assert [len(embeddings) for embeddings in found] == [1024] * 3


async def test_who_has_no_room_for_a_ping_is_alive():
    handle = Handle(2.0 * remote_calls.PATIENCE_S)
    handle.alive = BackPressureError(num_queued_requests=1, max_queued_requests=1)
    assert await RemotePart(handle, "part").is_alive()
