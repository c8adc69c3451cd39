"""Who is let in: bodies that drip in keep nobody else out."""

import asyncio

import pytest

from deployments.admission import Admission
from deployments.wait_bound import MIN_ANSWERS, MIN_LIMIT, MIN_WINDOW_S
from mmrag.errors import Overloaded


def key_of(scope) -> str:
    return dict(scope["headers"])[b"x-api-key"].decode()


BOUNDS = {"max_requests": 2, "max_bytes": 100, "max_arriving": 2, "max_wait_s": {}, "caller_of": key_of}


class Door:
    """An ASGI application behind an `Admission`, which reads the body, and then waits until it is let go."""

    def __init__(self, **bounds):
        self.admission = Admission(self.app, **BOUNDS | bounds)
        self.let_go = asyncio.Event()
        self.statuses: list[int] = []

    async def app(self, scope, receive, send) -> None:
        status = 200
        try:
            while (await receive()).get("more_body"):
                pass
            await self.let_go.wait()
        except Overloaded:
            status = 429
        await send({"type": "http.response.start", "status": status, "headers": []})

    def knock(
        self, *chunks: bytes, key: str = "a", is_whole: bool = True, until: asyncio.Event | None = None
    ) -> asyncio.Task:
        """A request whose body comes in these chunks, ending after `until`; one that is not whole never ends."""
        headers = [(b"x-api-key", key.encode())] + ([(b"content-length", b"9")] if chunks else [])
        messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

        async def receive():
            if messages:
                return messages.pop(0)
            if not is_whole:
                await asyncio.sleep(1_000)
            if until:
                await until.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])

        scope = {"type": "http", "path": "/v1/answer", "headers": headers, "client": ("127.0.0.1", 1)}
        return asyncio.create_task(self.admission(scope, receive, send))


class StreamDoor(Door):
    """Answers begin at once and end when they are let go."""

    async def app(self, scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.let_go.wait()
        await send({"type": "http.response.body", "body": b""})


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_slow_bodies_of_one_key_keep_neither_others_nor_places():
    door = Door()
    slow = [door.knock(b"x", is_whole=False) for _ in range(2)]
    await settled()
    refused = door.knock(b"x")  # the same key has two on the way
    other = door.knock(b"x", key="b")
    without_body = door.knock(key="a")
    await settled()
    assert door.statuses == [429]
    door.let_go.set()
    await asyncio.gather(refused, other, without_body)
    assert door.statuses == [429, 200, 200]
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert (door.admission.places.num_taken, door.admission.num_bytes, door.admission.arriving) == (0, 0, {})


async def test_beyond_the_places_requests_are_refused_before_and_after_their_body():
    door = Door()
    late = door.knock(b"x", is_whole=False, key="c")
    busy = [door.knock(b"x") for _ in range(2)]
    await settled()
    assert door.admission.places.num_taken == 2
    await door.knock(b"x", key="b")
    await door.knock(key="b")
    assert door.statuses == [429, 429]
    door.let_go.set()
    await asyncio.gather(*busy)
    await door.knock(b"x", key="b")
    assert door.statuses == [429, 429, 200, 200, 200]
    late.cancel()


async def test_who_has_waited_for_his_body_longer_than_the_places_lasted_is_refused():
    door, has_come = Door(), asyncio.Event()
    slow = door.knock(b"x", key="b", until=has_come)
    await settled()
    busy = [door.knock(b"x") for _ in range(2)]
    await settled()
    has_come.set()
    await asyncio.wait_for(slow, 10)
    assert door.statuses == [429] and door.admission.places.num_taken == 2
    door.let_go.set()
    await asyncio.gather(*busy)


async def test_long_streams_are_not_taken_for_requests_that_wait():
    door = StreamDoor(max_requests=200, max_wait_s={"/v1/answer": 0.2})
    streams = [door.knock() for _ in range(60)]
    await asyncio.sleep(0.6)
    streams += [door.knock() for _ in range(60)]
    await settled()
    assert door.statuses == [200] * 120
    assert door.admission.places.num_taken == 120
    door.let_go.set()
    await asyncio.gather(*streams)
    assert door.admission.places.num_taken == 0


async def test_bodies_are_bounded_together():
    door = Door(max_requests=9)
    held = [door.knock(b"x" * 25, key=key) for key in "abcd"]
    await settled()
    await door.knock(b"x", key="e")
    assert door.statuses == [429]
    door.let_go.set()
    await asyncio.gather(*held)
    await door.knock(b"x" * 25, key="e")
    assert door.statuses == [429, 200, 200, 200, 200, 200]


@pytest.mark.parametrize("chunks", [[b"x" * 26], [b"x" * 20, b"x" * 6]])
async def test_large_slow_bodies_of_one_key_leave_room_for_those_of_others(chunks):
    door = Door(max_arriving=9)
    slow = door.knock(b"x" * 5, is_whole=False)
    await settled()
    await door.knock(*chunks)
    assert door.statuses == [429]
    other = door.knock(b"x" * 25, key="b")
    await settled()
    door.let_go.set()
    await other
    assert door.statuses == [429, 200]
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert (door.admission.num_bytes, door.admission.arriving_bytes) == (0, {})


async def test_who_has_all_the_places_gets_no_more_than_half_of_them_once_another_is_refused():
    door = Door(max_requests=4)
    held = [door.knock(b"x") for _ in range(4)]
    await settled()
    await door.knock(b"x", key="b")
    assert door.statuses == [429]
    for task in held[:2]:
        task.cancel()
    await settled()
    await door.knock(b"x")  # two places are free, but for others
    others = [door.knock(b"x", key=key) for key in "bc"]
    await settled()
    assert door.statuses == [429, 429] and door.admission.places.num_taken == 4
    door.let_go.set()
    await asyncio.gather(*held[2:], *others)
    assert door.statuses == [429, 429, 200, 200, 200, 200]


async def test_when_answers_take_too_long_fewer_are_let_in():
    door = Door(max_requests=100, max_wait_s={"/v1/answer": 0.4})
    door.let_go.set()
    await asyncio.gather(*(door.knock(b"x") for _ in range(MIN_ANSWERS - 1)))
    await asyncio.sleep(MIN_WINDOW_S)
    await door.knock(b"x")  # now it is known how long one takes alone
    door.let_go.clear()
    slow = [door.knock(b"x", key=str(i)) for i in range(2 * MIN_LIMIT)]
    await asyncio.sleep(MIN_WINDOW_S)
    door.let_go.set()
    await asyncio.gather(*slow)
    assert set(door.statuses) == {200}
    door.let_go.clear()
    again = [door.knock(b"x", key=str(i)) for i in range(2 * MIN_LIMIT)]
    await settled()
    num_refused = door.statuses.count(429)
    assert 0 < num_refused <= MIN_LIMIT
    door.let_go.set()
    await asyncio.gather(*again)
    assert door.statuses.count(429) == num_refused
