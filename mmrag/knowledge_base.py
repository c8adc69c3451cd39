"""The knowledge base as an awaitable part: the store and its retriever."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mmrag import retrieval
from mmrag.config import AppConfig
from mmrag.encoders.fingerprint import embedding_fingerprint
from mmrag.types import Document, EncodedDocument, Evidence, SearchRequest, StoredImage


class KnowledgeBase:
    """`mmrag.parts.Knowledge` (see there) over the store that `config` names; in this process, or in a replica.

    Raises:
        ConfigurationError: the store cannot be used, or holds embeddings of other models.
    """

    def __init__(self, config: AppConfig):
        self.store = retrieval.open_store(config.retriever, embedding_fingerprint(config))
        self._retriever = retrieval.Retriever(self.store, config.retriever)

    async def search(self, requests: list[SearchRequest]) -> list[Evidence]:
        return await self._retriever.search(requests)

    async def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        await self.store.upsert(tenant, documents)

    async def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        return await self.store.content_hashes(tenant, document_ids)

    async def get(self, tenant: str, document_id: str) -> Document:
        return await self.store.get(tenant, document_id)

    async def delete(self, tenant: str, document_id: str) -> None:
        await self.store.delete(tenant, document_id)

    async def image(self, tenant: str, image_id: str) -> StoredImage:
        return await self.store.image(tenant, image_id)

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """Inside, much is written: it need not be found before the end."""
        async with self.store.loading():
            yield

    async def close(self) -> None:
        """Give up the store's connections and files."""
        await self.store.close()
