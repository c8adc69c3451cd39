"""A plain graph of Ray Serve: an ingress in FastAPI, a deployment for each model with @serve.batch.

serve run ray_serve_server:graph
"""

from fastapi import FastAPI
from models import image_model, text_model
from pydantic import BaseModel
from ray import serve

app = FastAPI()
MAX_BATCH, WAIT_S, MAX_ONGOING = 32, 0.01, 128
OPTIONS = {"max_ongoing_requests": MAX_ONGOING, "ray_actor_options": {"num_cpus": 0.3}}


class Inputs(BaseModel):
    inputs: list[str]


@serve.deployment(**OPTIONS)
class Texts:
    def __init__(self) -> None:
        self.embed = text_model()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def __call__(self, inputs: list[str]) -> list:
        return list(self.embed(inputs))


@serve.deployment(**OPTIONS)
class Images:
    def __init__(self) -> None:
        self.embed = image_model()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def __call__(self, inputs: list[str]) -> list:
        return list(self.embed(inputs))


@serve.deployment(**OPTIONS)
@serve.ingress(app)
class Ingress:
    def __init__(self, texts, images) -> None:
        self._texts, self._images = texts, images

    @app.get("/ready")
    async def ready(self) -> None:
        await self._texts.remote("ready?")

    @app.post("/texts")
    async def texts(self, body: Inputs) -> list[list[float]]:
        return [(await self._texts.remote(body.inputs[0])).tolist()]

    @app.post("/images")
    async def images(self, body: Inputs) -> list[list[float]]:
        return [(await self._images.remote(body.inputs[0])).tolist()]


graph = Ingress.bind(Texts.bind(), Images.bind())
