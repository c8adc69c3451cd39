"""The whole system in one process: for the command line, evaluations, and notebooks."""

import asyncio
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from tqdm import tqdm

from mmrag import retrieval
from mmrag.cache import open_cache
from mmrag.components import AnswerDecoder, ImageEmbedder, TextEmbedder
from mmrag.config import AppConfig
from mmrag.encoders.fingerprint import embedding_fingerprint
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.errors import ConfigurationError
from mmrag.knowledge.passages import Splitter
from mmrag.knowledge.sources import read_documents
from mmrag.pipeline import Knowledge, Pipeline
from mmrag.types import Document, EncodedDocument, IngestReport, Passage, Query, SearchRequest, StoredImage
from mmrag.views import answer_view, search_view

TENANT = "default"


class LocalKnowledge:
    """The store and its retriever in threads of this process."""

    def __init__(self, config: AppConfig):
        self.store = retrieval.open_store(config.retriever, embedding_fingerprint(config))
        self._retriever = retrieval.Retriever(self.store, config.retriever)

    async def search(self, requests: list[SearchRequest]) -> list[list[Passage]]:
        return await asyncio.to_thread(self._retriever.search, requests)

    async def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        await asyncio.to_thread(self.store.upsert, tenant, documents)

    async def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        return await asyncio.to_thread(self.store.content_hashes, tenant, document_ids)

    async def get(self, tenant: str, document_id: str) -> Document:
        return await asyncio.to_thread(self.store.get, tenant, document_id)

    async def delete(self, tenant: str, document_id: str) -> None:
        await asyncio.to_thread(self.store.delete, tenant, document_id)

    async def image(self, tenant: str, image_id: str) -> StoredImage:
        return await asyncio.to_thread(self.store.image, tenant, image_id)


class Local:
    """All parts of the system, loaded here; without the decoder it ingests, searches and embeds.

    Raises:
        ConfigurationError: a model or the store cannot be used.
    """

    def __init__(self, config: AppConfig, has_decoder: bool = True):
        self.text_encoder = TextEmbedder(config.text_encoder)
        self.image_encoder = ImageEmbedder(config.image_encoder)
        self.knowledge = LocalKnowledge(config)
        self.decoder = AnswerDecoder(config.decoder) if has_decoder else None
        self._config = config
        self._splitter = Splitter(load_tokenizer(config.text_encoder), config.retriever.passages)
        self._cache = open_cache(config.cache)
        self.pipeline = self.pipeline_over(self.knowledge)

    def pipeline_over(self, knowledge: Knowledge) -> Pipeline:
        """A pipeline of these parts that searches in `knowledge`."""
        return Pipeline(
            text_encoder=self.text_encoder,
            image_encoder=self.image_encoder,
            retriever=knowledge,
            decoder=self.decoder,
            splitter=self._splitter,
            cache=self._cache,
            limits=self._config.limits,
        )

    async def ingest(self, path: Path) -> IngestReport:
        """Put what lies at `path` into the knowledge base, with a progress bar."""
        source = read_documents(path, self._config.limits)
        with tqdm(source, desc=f"ingesting {path}", unit=" documents") as documents:
            return await self.pipeline.ingest(TENANT, documents)

    async def query(self, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        """`answer` or `search` with the fields of a Query; the result as the HTTP API would give it."""
        query = Query(**fields, tenant=TENANT)
        if verb == "search":
            return search_view(await self.pipeline.search(query))
        return answer_view(await self.pipeline.answer(query))


def config_of(path: Path) -> AppConfig:
    """The `args:` of the application in a serve_config.yaml; relative paths in it are relative to its folder.

    Raises:
        ConfigurationError: the file is missing, is no YAML, or has an unknown key.
    """
    try:
        application = yaml.safe_load(path.read_text())["applications"][0]
        return AppConfig.model_validate(application.get("args") or {})
    except OSError as error:
        hint = "run this in the project's folder, or name the file with --config"
        raise ConfigurationError(f"{path}: {error.strerror}; {hint}") from error
    except (yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise ConfigurationError(f"{path} has no `applications:` with `args:`") from error
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
