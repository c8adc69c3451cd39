"""Whole answers from a plain graph of Ray Serve: encoder, retriever and reader, each a deployment with @serve.batch.

serve run ray_serve_answers:graph
"""

from collections.abc import Callable

from answer_models import CONFIG, reader
from fastapi import FastAPI
from models import sentence_transformer
from pydantic import BaseModel
from ray import serve
from ray_serve_batched import MAX_BATCH, OPTIONS, WAIT_S, Batched

from mmrag.config_file import read_config
from mmrag.knowledge_base import KnowledgeBase
from mmrag.types import DecodeRequest, SearchRequest

app = FastAPI()


class Question(BaseModel):
    text: str


@serve.deployment(**OPTIONS)
class Retriever:
    def __init__(self) -> None:
        self.knowledge = KnowledgeBase(read_config(CONFIG))

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def __call__(self, requests: list[SearchRequest]) -> list:
        return await self.knowledge.search(requests)


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


def answers() -> Callable[[list[DecodeRequest]], list[str]]:
    read = reader()
    return lambda requests: [decoded.text for decoded in read(requests)]


texts, read = Batched.options(name="Texts"), Batched.options(name="Reader")
graph = Ingress.bind(texts.bind(sentence_transformer), Retriever.bind(), read.bind(answers))
