"""A store whose methods block, as one whose methods are awaited."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from mmrag.retrieval.sqlite import SqliteStore
from mmrag.retrieval.store import Candidates, Key
from mmrag.types import Document, EncodedDocument, Passage, SearchRequest, StoredImage


class InThreads:
    """`mmrag.retrieval.store.Store` over the embedded store, each call in a thread.

    One at a time writes: those that wait for their turn take no thread from those that read.
    """

    def __init__(self, store: SqliteStore):
        self._store = store
        self._writing = asyncio.Lock()

    async def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        async with self._writing:
            await asyncio.to_thread(self._store.upsert, tenant, documents)

    async def delete(self, tenant: str, document_id: str) -> None:
        async with self._writing:
            await asyncio.to_thread(self._store.delete, tenant, document_id)

    async def get(self, tenant: str, document_id: str) -> Document:
        return await asyncio.to_thread(self._store.get, tenant, document_id)

    async def image(self, tenant: str, image_id: str) -> StoredImage:
        return await asyncio.to_thread(self._store.image, tenant, image_id)

    async def count(self, tenant: str) -> int:
        return await asyncio.to_thread(self._store.count, tenant)

    async def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        return await asyncio.to_thread(self._store.content_hashes, tenant, document_ids)

    async def candidates(self, requests: list[SearchRequest], count: int) -> list[Candidates]:
        return await asyncio.to_thread(self._store.candidates, requests, count)

    async def passages(
        self, requests: list[SearchRequest], keys: list[list[Key]], candidates: list[Candidates]
    ) -> list[list[Passage]]:
        return await asyncio.to_thread(self._store.passages, requests, keys)

    async def metadata_fields(self, tenant: str, wanted: Iterable[str]) -> list[str]:
        return await asyncio.to_thread(self._store.metadata_fields, tenant, wanted)

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        yield

    async def close(self) -> None:
        await asyncio.to_thread(self._store.close)
