"""The whole system in one process: for the command line, evaluations, and notebooks."""

from collections.abc import Iterable
from typing import Any

from mmrag.cache import open_cache
from mmrag.components import AnswerDecoder, ImageEmbedder, TextEmbedder
from mmrag.config import AppConfig
from mmrag.encoders.tokenizer import load_tokenizer
from mmrag.knowledge.passages import Splitter
from mmrag.knowledge_base import KnowledgeBase
from mmrag.parts import Decoder, Knowledge
from mmrag.pipeline import Pipeline
from mmrag.types import DEFAULT_TENANT, Document, IngestReport, Query, Refusal
from mmrag.views import answer_view, search_view


class Local:
    """All parts of the system, loaded here; without the decoder it ingests, searches and embeds.

    Raises:
        ConfigurationError: a model or the store cannot be used.
    """

    def __init__(self, config: AppConfig, has_decoder: bool = True):
        self.text_encoder = TextEmbedder(config.text_encoder)
        self.image_encoder = ImageEmbedder(config.image_encoder)
        self.knowledge = KnowledgeBase(config)
        self.decoder = AnswerDecoder(config.decoder) if has_decoder else None
        self._config = config
        self._splitter = Splitter(load_tokenizer(config.text_encoder), config.retriever.passages)
        self._cache = open_cache(config.cache)
        self.pipeline = self.pipeline_with()

    def pipeline_with(self, knowledge: Knowledge | None = None, decoder: Decoder | None = None) -> Pipeline:
        """A pipeline of these parts, with another knowledge base or decoder where one is given."""
        return Pipeline(
            text_encoder=self.text_encoder,
            image_encoder=self.image_encoder,
            retriever=knowledge or self.knowledge,
            decoder=decoder or self.decoder,
            splitter=self._splitter,
            cache=self._cache,
            limits=self._config.query_limits,
            requires_evidence=self._config.retriever.requires_evidence,
        )

    async def ingest(self, documents: Iterable[Document | Refusal]) -> IngestReport:
        """Put what can be taken into the knowledge base, and report the rest."""
        async with self.knowledge.loading():
            return await self.pipeline.ingest(DEFAULT_TENANT, documents)

    async def query(self, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        """`answer` or `search` with the fields of a Query; the result as the HTTP API would give it."""
        query = Query(**fields, tenant=DEFAULT_TENANT)
        if verb == "search":
            return search_view(await self.pipeline.search(query))
        return answer_view(await self.pipeline.answer(query))
