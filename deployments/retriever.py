"""The retriever as a deployment."""

import asyncio

from ray import serve

from mmrag.config import RetrieverConfig
from mmrag.types import Document, EncodedDocument, Passage, SearchRequest, StoredImage


# Searches take milliseconds and are done one after the other; only documents being written take longer.
@serve.deployment(max_ongoing_requests=64, max_queued_requests=256, ray_actor_options={"num_cpus": 0.2})
class Retriever:
    """`mmrag.retrieval.Retriever` behind a handle. All replicas share one store: what one writes, all see."""

    def __init__(self, config: RetrieverConfig):
        from mmrag import retrieval

        self._store = retrieval.open_store(config)
        self._retriever = retrieval.Retriever(self._store, config)

    async def search(self, requests: list[SearchRequest]) -> list[list[Passage]]:
        """The passages for each request, best first."""
        return await asyncio.to_thread(self._retriever.search, requests)

    async def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        """Write all of the documents, or none."""
        await asyncio.to_thread(self._store.upsert, tenant, documents)

    async def delete(self, tenant: str, document_id: str) -> None:
        """Raises NotFound."""
        await asyncio.to_thread(self._store.delete, tenant, document_id)

    async def get(self, tenant: str, document_id: str) -> Document:
        """Raises NotFound."""
        return await asyncio.to_thread(self._store.get, tenant, document_id)

    async def image(self, tenant: str, image_id: str) -> StoredImage:
        """Raises NotFound."""
        return await asyncio.to_thread(self._store.image, tenant, image_id)

    async def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        """The content hash of each of these documents that is stored."""
        return await asyncio.to_thread(self._store.content_hashes, tenant, document_ids)

    async def ping(self) -> None:
        """Answers while the replica is alive."""
