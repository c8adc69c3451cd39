"""A model as a deployment of a plain graph of Ray Serve, with @serve.batch as its documentation has it."""

from collections.abc import Callable, Sequence

from ray import serve

MAX_BATCH, WAIT_S, MAX_ONGOING = 32, 0.01, 128
OPTIONS = {"max_ongoing_requests": MAX_ONGOING, "ray_actor_options": {"num_cpus": 0.3}}


@serve.deployment(**OPTIONS)
class Batched:
    """`load` makes in each replica what takes a list of inputs and returns as many outputs."""

    def __init__(self, load: Callable[[], Callable[[list], Sequence]]) -> None:
        self._work = load()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def __call__(self, inputs: list) -> list:
        return list(self._work(inputs))
