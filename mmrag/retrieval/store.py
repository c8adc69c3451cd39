"""The seam between the retriever and what keeps the knowledge: the embedded store here, a cluster elsewhere."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mmrag.types import Document, EncodedDocument, Passage, SearchRequest, StoredImage

Key = tuple[str, int | None]
"""Document id and number of the passage in it; None: the document, whichever passage of it fits best."""

MAX_FIELDS = 100
"""Metadata fields that a store names where they are not asked for by name."""

Scored = list[tuple[Key, float]]
"""Candidates of one branch with their scores, best first."""


class Candidates(dict[str, Scored]):
    """What each branch found for one request; `degraded` says in words which did not answer, or only in part.

    `content_hashes`: of documents found, where the store tells it: the content that they were found with.
    """

    def __init__(self, *args: dict[str, Scored]):
        super().__init__(*args)
        self.degraded: list[str] = []
        self.content_hashes: dict[str, str] = {}


class Store(Protocol):
    """Keeps documents and finds candidates. Every method sees one tenant's documents only.

    What a method has written, and what it has deleted, is seen by every later call in every process.

    Every method may raise Unavailable.
    """

    async def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        """Write all of the documents, replacing those of the same id; after an error none is written."""

    async def delete(self, tenant: str, document_id: str) -> None:
        """Raise NotFound where there is no such document."""

    async def get(self, tenant: str, document_id: str) -> Document:
        """Raise NotFound where there is no such document."""

    async def image(self, tenant: str, image_id: str) -> StoredImage:
        """Raise NotFound where there is no such image."""

    async def count(self, tenant: str) -> int:
        """How many documents there are."""

    async def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        """The content hash of each of these documents that is stored."""

    async def candidates(self, requests: list[SearchRequest], count: int) -> list[Candidates]:
        """For each request and branch, the best `count` candidates that pass the request's filters."""

    async def metadata_fields(self, tenant: str, wanted: Iterable[str]) -> list[str]:
        """Fields that documents have to filter on: at most `MAX_FIELDS`, and those of `wanted` in any case."""

    def loading(self) -> AbstractAsyncContextManager[None]:
        """Inside, much is written: it need not be found before the end."""

    async def close(self) -> None:
        """Give up connections and files."""

    async def passages(
        self, requests: list[SearchRequest], keys: list[list[Key]], candidates: list[Candidates]
    ) -> list[list[Passage]]:
        """The passages of these keys in order, with embeddings and the picture that fits the request best.

        `candidates`: what the keys were found in.

        Those deleted in the meantime are left out; score, branches and similarities are left empty.
        """
