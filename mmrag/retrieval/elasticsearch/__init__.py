"""The knowledge base in Elasticsearch: many machines, many services, one index behind an alias."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from mmrag.config import ElasticsearchConfig
from mmrag.errors import ConfigurationError, NotFound, Unavailable
from mmrag.retrieval.blobs import Blobs, FileBlobs
from mmrag.retrieval.elasticsearch.connection import Connection
from mmrag.retrieval.elasticsearch.loading import load, note
from mmrag.retrieval.elasticsearch.pictures import Pictures
from mmrag.retrieval.elasticsearch.records import HEAD_FIELDS, Head, Record, dimensions_of, document_of, record_id
from mmrag.retrieval.elasticsearch.scope import field_key, scope
from mmrag.retrieval.elasticsearch.searching import Searcher
from mmrag.retrieval.elasticsearch.versions import Versions
from mmrag.retrieval.elasticsearch.writing import IndexGone, Writer, heads, refuse, takes_steps
from mmrag.retrieval.store import MAX_FIELDS, Candidates, Key
from mmrag.types import Document, EncodedDocument, IngestReport, Passage, SearchRequest, StoredImage

log = logging.getLogger(__name__)

MAX_RECORDS_AT_ONCE = 200
MAX_SAMPLED = 100
"""Documents that are looked at to tell which metadata fields there are."""

WHOLE = ["tenant", "document", *HEAD_FIELDS, "stored"]
"""All of a record that is kept as it was given."""


class ElasticsearchStore:
    """See `mmrag.retrieval.store.Store` for what the methods do.

    What is not as in the embedded store, because Elasticsearch has no transactions: several documents, and the records
    of one that has several, are written one after another, and a search in between sees some of them. After an error
    some may have been written; written again, they replace what is there, and a document whose writing was cut off is
    never taken for up to date.

    Args:
        fingerprint: names the models that the embeddings come from, both encoders together; None: not checked.
        version: one version of the index by its name, whatever the aliases say.

    Raises:
        ConfigurationError: it cannot be used, or holds embeddings of other models. (Where Elasticsearch is away, that
            is found out by the first call that reaches it.)
    """

    def __init__(
        self,
        config: ElasticsearchConfig,
        fingerprint: str | None = None,
        blobs: Blobs | None = None,
        version: str | None = None,
    ):
        self._config = config
        self._connection = Connection(config)
        self.versions = Versions(self._connection, config, fingerprint, version)
        self.searcher = Searcher(self._connection, self.versions, config)
        self.writer = Writer(self._connection, config)
        self.pictures = Pictures(blobs or FileBlobs(config.images_path), self._search)
        self._num_loads = 0
        if version is None:
            _complain_early(config, fingerprint)

    async def close(self) -> None:
        await self._connection.close()

    async def upsert(self, tenant: str, documents: list[EncodedDocument]) -> None:
        known = await self.heads(tenant, [encoded.document.id for encoded in documents])
        refuse(await self._write(tenant, documents, known))

    async def load(
        self,
        tenant: str,
        source: Iterable[EncodedDocument],
        on_progress: Callable[[IngestReport], None] = lambda report: None,
    ) -> IngestReport:
        """Write a stream of documents in bounded memory, but not those that are stored already with the same content.

        So a load that was killed may be started again. What is refused for good is in the report, and the rest goes on.

        Args:
            on_progress: called after each chunk with the report so far.
        """

        async def write(documents: list[EncodedDocument], report: IngestReport) -> None:
            known = await self.heads(tenant, [encoded.document.id for encoded in documents])
            hashes = {document_id: head.content_hash for document_id, head in known.items()}
            changed = [one for one in documents if hashes.get(one.document.id) != one.content_hash.hex()]
            note(report, changed, len(documents) - len(changed), await self._write(tenant, changed, known))

        async with self.loading():
            return await load(source, write, on_progress)

    async def _write(self, tenant: str, documents: list[EncodedDocument], known: dict[str, Head]) -> dict[str, str]:
        dimensions = dimensions_of(documents)
        if len(dimensions) > 1:
            raise ConfigurationError(f"embeddings of different dimensions cannot be compared: {sorted(dimensions)}")
        dimension = next(iter(dimensions), None)
        await self.versions.writable(dimension)
        await self.pictures.put(tenant, documents)
        try:
            refused = await self._put(tenant, documents, known)
        except IndexGone:
            self.versions.forget()
            await self.versions.writable(dimension)
            refused = await self._put(tenant, documents, known)
        # Again, because somebody who deleted the last document with such a picture may have taken it away meanwhile.
        await self.pictures.put(tenant, documents)
        replaced = {one.document.id: known[one.document.id] for one in documents if one.document.id in known}
        await self._forget_pictures(tenant, replaced)
        return refused

    async def _put(self, tenant: str, documents: list[EncodedDocument], known: dict[str, Head]) -> dict[str, str]:
        is_visible = not self._num_loads
        try:
            return await self.versions.in_one(
                takes_steps(documents, known),
                lambda: self.writer.put(self.versions.alias, tenant, documents, known, is_visible),
            )
        finally:  # also where they are written, but did not become searchable
            self.searcher.cache.drop(record_id(tenant, encoded.document.id, 0) for encoded in documents)

    async def delete(self, tenant: str, document_id: str) -> None:
        known = await self.heads(tenant, [document_id])
        if not known:
            raise NotFound(f"there is no document {document_id!r}")
        num_records = {name: head.num_records for name, head in known.items()}
        try:
            await self.versions.in_one(
                num_records[document_id] > 1,
                lambda: self.writer.delete(self.versions.alias, tenant, num_records, is_visible=True),
            )
        finally:
            self.searcher.cache.drop([record_id(tenant, document_id, 0)])
        await self._forget_pictures(tenant, known)

    async def get(self, tenant: str, document_id: str) -> Document:
        known = await self.heads(tenant, [document_id])
        if not known:
            raise NotFound(f"there is no document {document_id!r}")
        sources = (await self.sources(tenant, known))[document_id]
        return document_of(sources, await asyncio.to_thread(self.pictures.of, tenant, sources))

    async def sources(self, tenant: str, known: dict[str, Head]) -> dict[str, list[Record]]:
        """All records of each of these documents, in order."""
        ids = [
            (document_id, record_id(tenant, document_id, number))
            for document_id, head in known.items()
            for number in range(head.num_records)
        ]
        found: dict[str, list[Record]] = {document_id: [] for document_id in known}
        for start in range(0, len(ids), MAX_RECORDS_AT_ONCE):
            group = ids[start : start + MAX_RECORDS_AT_ONCE]
            records = await self.searcher.sources([key for _, key in group], WHOLE)
            for document_id, key in group:
                if key in records:
                    found[document_id].append(records[key])
        return found

    async def image(self, tenant: str, image_id: str) -> StoredImage:
        return await self.pictures.one(tenant, image_id)

    async def count(self, tenant: str) -> int:
        if await self.versions.current() is None:
            return 0
        return await self.versions.count(self.versions.alias, *scope(tenant))

    async def content_hashes(self, tenant: str, document_ids: list[str]) -> dict[str, bytes]:
        known = await self.heads(tenant, document_ids)
        return {document_id: bytes.fromhex(head.content_hash) for document_id, head in known.items()}

    async def heads(self, tenant: str, document_ids: list[str]) -> dict[str, Head]:
        """What is known of those of these documents that are stored."""
        return await heads(self.searcher, tenant, document_ids)

    async def candidates(self, requests: list[SearchRequest], count: int) -> list[Candidates]:
        return await self.searcher.candidates(requests, count)

    async def passages(
        self, requests: list[SearchRequest], keys: list[list[Key]], candidates: list[Candidates]
    ) -> list[list[Passage]]:
        return await self.searcher.passages(requests, keys, candidates)

    async def metadata_fields(self, tenant: str, wanted: Iterable[str]) -> list[str]:
        heads = [{"exists": {"field": "metadata"}}, {"exists": {"field": "num_records"}}]
        sampled = await self._search(tenant, heads, ["stored.document.metadata"], MAX_SAMPLED)
        sampled_fields = {name for source in sampled for name in source["stored"]["document"]["metadata"]}
        fields = {*sorted(sampled_fields)[:MAX_FIELDS], *sampled_fields.intersection(wanted)}
        for name in set(wanted) - fields:
            if await self._search(tenant, [{"exists": {"field": f"metadata.{field_key(name)}"}}], ["document"]):
                fields.add(name)
        return sorted(fields)

    @asynccontextmanager
    async def loading(self) -> AsyncIterator[None]:
        """Nothing is made searchable until the end, which is cheaper; a load that was killed leaves it to the next."""
        await self.versions.writable(None)
        self._num_loads += 1
        try:
            await self.versions.set_refresh("-1")
            yield
        finally:
            self._num_loads -= 1
            if not self._num_loads and await self.versions.set_refresh(self._config.refresh_interval):
                await self.writer.refresh(self.versions.alias)

    async def _forget_pictures(self, tenant: str, was: dict[str, Head]) -> None:
        if self._num_loads:  # what is being loaded cannot be searched yet, so nobody could say who shows what
            return
        await self.pictures.remove_unused(tenant, {image_id for head in was.values() for image_id in head.image_ids})

    async def _search(
        self, tenant: str, conditions: list[dict[str, Any]], fields: list[str], size: int = 1
    ) -> list[dict[str, Any]]:
        if await self.versions.current() is None:
            return []
        query = {"bool": {"filter": [*scope(tenant), *conditions]}}
        body = {"query": query, "size": size, "_source": fields}
        found = await self.versions.read("_search", body)
        if found is None:
            return []
        if found["_shards"]["failed"]:
            raise Unavailable("a part of the knowledge base does not answer")
        return [hit["_source"] for hit in found["hits"]["hits"]]


def _complain_early(config: ElasticsearchConfig, fingerprint: str | None) -> None:
    # In a thread, because whoever makes a store may be inside an event loop or not.
    async def look() -> None:
        connection = Connection(config)
        try:
            await Versions(connection, config, fingerprint).current()
        except Unavailable as error:
            log.warning("%s; going on without it until it does", error)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, look()).result()
