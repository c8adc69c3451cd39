"""Whole answers from a plain graph of Ray Serve: encoder, retriever and reader, each a deployment with @serve.batch.

serve run ray_serve_answers:graph
"""

from answer_models import CONFIG, reader
from fastapi import FastAPI
from models import sentence_transformer
from pydantic import BaseModel
from ray import serve

from mmrag.config_file import read_config
from mmrag.knowledge_base import KnowledgeBase
from mmrag.types import DecodeRequest, SearchRequest

app = FastAPI()
MAX_BATCH, WAIT_S, MAX_ONGOING = 32, 0.01, 128
OPTIONS = {"max_ongoing_requests": MAX_ONGOING, "ray_actor_options": {"num_cpus": 0.3}}


class Question(BaseModel):
    text: str


@serve.deployment(**OPTIONS)
class Texts:
    def __init__(self) -> None:
        self.embed = sentence_transformer()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def __call__(self, inputs: list[str]) -> list:
        return list(self.embed(inputs))


@serve.deployment(**OPTIONS)
class Retriever:
    def __init__(self) -> None:
        self.knowledge = KnowledgeBase(read_config(CONFIG))

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def __call__(self, requests: list[SearchRequest]) -> list:
        return await self.knowledge.search(requests)


@serve.deployment(**OPTIONS)
class Reader:
    def __init__(self) -> None:
        self.read = reader()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def __call__(self, requests: list[DecodeRequest]) -> list[str]:
        return [decoded.text for decoded in self.read(requests)]


@serve.deployment(**OPTIONS)
@serve.ingress(app)
class Ingress:
    def __init__(self, texts, retriever, reader) -> None:
        self._texts, self._retriever, self._reader = texts, retriever, reader

    @app.get("/ready")
    async def ready(self) -> None:
        await self.answer(Question(text="ready?"))

    @app.post("/answer")
    async def answer(self, question: Question) -> dict[str, str]:
        embedding = await self._texts.remote(question.text)
        passages = await self._retriever.remote(SearchRequest(text=question.text, text_embedding=embedding))
        request = DecodeRequest(question.text, embedding, None, None, list(passages))
        return {"answer": await self._reader.remote(request)}


graph = Ingress.bind(Texts.bind(), Retriever.bind(), Reader.bind())
