"""A plain graph of Ray Serve: an ingress in FastAPI, a deployment for each model with @serve.batch.

serve run ray_serve_server:graph
"""

from fastapi import FastAPI
from models import image_model, text_model
from pydantic import BaseModel
from ray import serve
from ray_serve_batched import OPTIONS, Batched

app = FastAPI()


class Inputs(BaseModel):
    inputs: list[str]


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


graph = Ingress.bind(Batched.options(name="Texts").bind(text_model), Batched.options(name="Images").bind(image_model))
