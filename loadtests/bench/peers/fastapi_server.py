"""A plain FastAPI application: the model is loaded once, each request runs it in a thread of the pool.

uvicorn fastapi_server:app
"""

from fastapi import FastAPI
from models import image_model, text_model
from pydantic import BaseModel

app = FastAPI()
embed_texts, embed_images = text_model(), image_model()


class Inputs(BaseModel):
    inputs: list[str]


@app.post("/texts")
def texts(body: Inputs) -> list[list[float]]:
    return embed_texts(body.inputs).tolist()


@app.post("/images")
def images(body: Inputs) -> list[list[float]]:
    return embed_images(body.inputs).tolist()
