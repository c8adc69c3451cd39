"""What a pipeline is made of: each part is awaited, wherever it runs."""

from collections.abc import AsyncIterator
from typing import Protocol

import numpy as np

from mmrag.types import (
    Decoded,
    DecodeRequest,
    Document,
    EncodedDocument,
    Evidence,
    ImageEmbeddings,
    SearchRequest,
    StoredImage,
)


class EmbedsTexts(Protocol):
    """The text encoder. `fingerprint` changes when its embeddings do."""

    fingerprint: str

    async def embed(self, texts: list[str]) -> np.ndarray:
        """float32 [n, dimension], L2-normalised."""


class EmbedsImages(Protocol):
    """The image encoder. `fingerprint` changes when its embeddings do."""

    fingerprint: str

    async def embed(self, images: list[np.ndarray]) -> ImageEmbeddings:
        """Embeddings of n decoded images, uint8 [height, width, 3 or 4] each."""


class Writes(Protocol):
    """That part of the knowledge base that documents are put into."""

    async def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        """The content hash of each of these documents that is stored."""

    async def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        """Write all of the documents, or none; searchable when this returns."""


class Knowledge(Writes, Protocol):
    """The retriever and the store beneath it. Each method sees one tenant's documents only."""

    async def search(self, requests: list[SearchRequest]) -> list[Evidence]:
        """The passages for each request, best first."""

    async def get(self, tenant: str, document_id: str) -> Document:
        """Raises NotFound."""

    async def delete(self, tenant: str, document_id: str) -> None:
        """Raises NotFound."""

    async def image(self, tenant: str, image_id: str) -> StoredImage:
        """Raises NotFound."""


class Decoder(Protocol):
    """The fusion decoder, or another reader."""

    async def decode(self, requests: list[DecodeRequest]) -> list[Decoded]:
        """The answer to each request."""

    def stream(self, request: DecodeRequest) -> AsyncIterator[str | Decoded]:
        """Pieces of the answer as they are written, then the whole."""
