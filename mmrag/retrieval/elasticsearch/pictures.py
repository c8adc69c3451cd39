"""The pictures' bytes: kept by content beside the index, which says who shows what."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mmrag.errors import NotFound, Unavailable
from mmrag.retrieval.blobs import Blobs
from mmrag.retrieval.elasticsearch.branches import sendable
from mmrag.retrieval.elasticsearch.records import Record
from mmrag.types import EncodedDocument, StoredImage

Search = Callable[..., Awaitable[list[dict[str, Any]]]]


class Pictures:
    """Puts pictures there before a document names them, and takes them away when none does any more.

    Args:
        search: (tenant, conditions, fields, size) → that of each record of the tenant's that meets the conditions.
    """

    def __init__(self, blobs: Blobs, search: Search):
        self._blobs = blobs
        self._search = search

    async def put(self, tenant: str, documents: list[EncodedDocument]) -> None:
        """Keep what these documents show."""
        pictures = [image.image for encoded in documents for image in encoded.images]

        def put_all() -> None:
            for picture in pictures:
                self._blobs.put(tenant, picture.id, picture.content)

        if pictures:
            await asyncio.to_thread(put_all)

    async def one(self, tenant: str, image_id: str) -> StoredImage:
        """A picture that a document of the tenant's shows. Raises NotFound."""
        # Whether the tenant has such a picture is for the index to say.
        condition = {"term": {"image_ids": sendable(image_id)}}
        found = await self._search(tenant, [condition], ["stored.document.pictures"])
        content = await asyncio.to_thread(self._blobs.get, tenant, image_id) if found else None
        if content is None:
            raise NotFound(f"there is no image {image_id!r}")
        media_types = {picture["id"]: picture["media_type"] for picture in found[0]["stored"]["document"]["pictures"]}
        return StoredImage(image_id, content, media_types[image_id])

    def of(self, tenant: str, sources: list[Record]) -> dict[str, bytes]:
        """The content of a document's pictures by id; blocks. Raises Unavailable where one is missing."""
        found = {}
        for picture in sources[0]["stored"]["document"]["pictures"]:
            content = self._blobs.get(tenant, picture["id"])
            if content is None:
                raise Unavailable(
                    f"the picture {picture['id']} is not in retriever.elasticsearch.images_path: every process of the "
                    "service must see the same folder"
                )
            found[picture["id"]] = content
        return found

    async def remove_unused(self, tenant: str, image_ids: set[str]) -> None:
        """Delete those of these pictures that no document shows any more."""
        if not image_ids:
            return
        for image_id in image_ids - await self._shown(tenant, sorted(image_ids)):
            content = await asyncio.to_thread(self._blobs.get, tenant, image_id)
            await asyncio.to_thread(self._blobs.delete, tenant, image_id)
            # A document that shows it may have been written since: before this look, it is put back; after, its
            # writer puts it back.
            if content is not None and await self._shown(tenant, [image_id]):
                await asyncio.to_thread(self._blobs.put, tenant, image_id, content)

    async def _shown(self, tenant: str, ids: list[str]) -> set[str]:
        sources = await self._search(tenant, [{"terms": {"image_ids": ids}}], ["image_ids"], len(ids))
        shown = {image_id for source in sources for image_id in source["image_ids"]} & set(ids)
        if len(sources) == len(ids) and shown != set(ids):  # one document more than those read may show another
            return shown.union(*[await self._shown(tenant, [one]) for one in set(ids) - shown])
        return shown
