"""The next version of the index, built while the one before it serves.

Documents are copied until few are left that differ; then writing is held back for as long as it takes to copy those,
and the aliases are swapped in one step. Writers that were held back try again, and write to the next version: no write
is lost. Readers never wait: until the swap they read the one, then the other. Killed at any time, it goes on where it
was when it is run again; if that happens while writing is held back, writing goes on after a minute.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from elasticsearch import ApiError

from mmrag.config import ElasticsearchConfig
from mmrag.errors import ConfigurationError, Unavailable
from mmrag.retrieval.elasticsearch import ElasticsearchStore, mapping
from mmrag.retrieval.elasticsearch.connection import Connection
from mmrag.retrieval.elasticsearch.holding import MAX_HOLD_S, Holds, taking
from mmrag.retrieval.elasticsearch.records import Head, dimensions_of, document_of, encoded_of, is_whole
from mmrag.retrieval.elasticsearch.versions import Version, Versions
from mmrag.types import Document, EncodedDocument

log = logging.getLogger(__name__)

PAGE_DOCUMENTS = 200
MAX_PASSES = 5
FEW = 100
"""Documents that may be copied while writing is held back."""

Encode = Callable[[str, list[Document]], Awaitable[list[EncodedDocument]]]
"""A tenant's documents, encoded by the models that the next version is for."""


@dataclass(slots=True)
class ReindexReport:
    """What a reindex did; `version` is in use now."""

    version: str
    num_copied: int = 0
    num_deleted: int = 0


class Reindex:
    """Builds a version as `config` says, for models of this fingerprint.

    Where the models are those of the version in use, embeddings are copied; otherwise `encode` makes new ones.
    """

    def __init__(
        self,
        config: ElasticsearchConfig,
        fingerprint: str | None,
        encode: Encode,
        on_progress: Callable[[ReindexReport], None] = lambda report: None,
    ):
        self._config = config
        self._connection = Connection(config)
        self._versions = Versions(self._connection, config, fingerprint)
        self._holds = Holds(self._connection, config)
        self._encode = encode
        self._on_progress = on_progress

    async def run(self) -> ReindexReport:
        """Build it and swap.

        Raises:
            ConfigurationError: there is nothing to build it from.
            Unavailable: Elasticsearch does not answer.
        """
        try:
            versions = await self._versions.all()
            old = next((version for version in reversed(versions) if self._config.index in version.aliases), None)
            if old is None:
                raise ConfigurationError(f"there is no index {self._config.index!r} yet: ingest something first")
            new = await self._unfinished(versions, old) or await self._versions.create(None, is_used=False)
            report = ReindexReport(new.name)
            await self._build(old, new, report)
            await self._delete_unused()
            return report
        finally:
            await self._connection.close()

    async def _build(self, old: Version, new: Version, report: ReindexReport) -> None:
        source, target = (ElasticsearchStore(self._config, version=version.name) for version in (old, new))
        try:
            for _ in range(MAX_PASSES):
                if await self._catch_up(source, target, old, report) <= FEW:
                    break
            await self._swap(source, target, old, report)
        finally:
            await source.close()
            await target.close()

    async def _unfinished(self, versions: list[Version], old: Version) -> Version | None:
        # One that an earlier run began and that is still what is wanted.
        wanted = mapping.meta(self._config, self._versions.fingerprint)
        begun = [version for version in versions if not version.aliases and version.number > old.number]
        return next((version for version in begun if version.meta == wanted), None)

    async def _swap(
        self, source: ElasticsearchStore, target: ElasticsearchStore, old: Version, report: ReindexReport
    ) -> None:
        mark = await self._holds.hold(old.name)
        try:
            async with asyncio.timeout(MAX_HOLD_S):
                await self._catch_up(source, target, old, report)
            await self._versions.use(target.versions.alias, taking(old.name, mark))
        except TimeoutError:
            raise Unavailable("too much is being written for a swap: run it again when there is less") from None
        except ApiError as error:
            if error.status_code != 404:
                raise
            raise Unavailable("writing was held back for too long, and goes on: run it again") from error
        finally:
            await self._holds.release(old.name, mark)

    async def _delete_unused(self) -> None:
        # A version that services with other models read has an alias of theirs, and stays until they are gone, too.
        await asyncio.sleep(self._config.timeout_s)  # searches under way may still be reading
        for version in await self._versions.all():
            if not version.aliases:
                await self._versions.delete(version.name)

    async def _catch_up(
        self, source: ElasticsearchStore, target: ElasticsearchStore, old: Version, report: ReindexReport
    ) -> int:
        """Make the target hold what the source holds; returns how many documents differed."""
        num_different = 0
        await source.writer.refresh(source.versions.alias)
        async for page in self._pages(source):
            for tenant, heads in page.items():
                there = await target.heads(tenant, list(heads))
                missing = {name: head for name, head in heads.items() if not _is_copy(there.get(name), head)}
                await self._copy(source, target, tenant, missing, there, old)
                num_different += len(missing)
                report.num_copied += len(missing)
                self._on_progress(report)
        await target.writer.refresh(target.versions.alias)
        async for page in self._pages(target):
            for tenant, heads in page.items():
                here = await source.heads(tenant, list(heads))
                gone = {name: head.num_records for name, head in heads.items() if name not in here}
                await target.writer.delete(target.versions.alias, tenant, gone, is_visible=False)
                num_different += len(gone)
                report.num_deleted += len(gone)
        await target.writer.refresh(target.versions.alias)
        return num_different

    async def _copy(
        self, source: ElasticsearchStore, target: ElasticsearchStore, tenant: str, heads: dict[str, Head],
        there: dict[str, Head], old: Version,
    ) -> None:  # fmt: skip
        records = await source.sources(tenant, heads)
        # What is being written or deleted at this moment is for the next pass.
        whole = {name: found for name, found in records.items() if is_whole(found)}
        if len(whole) < len(heads):
            log.warning("%d documents are only written in part: not copied so far", len(heads) - len(whole))
        if old.meta.get("fingerprint") == self._versions.fingerprint:
            encoded = [encoded_of(found, defaultdict(bytes)) for found in whole.values()]
        else:
            documents = [document_of(found, source.pictures.of(tenant, found)) for found in whole.values()]
            encoded = await self._encode(tenant, documents) if documents else []
        if encoded:
            await target.versions.writable(next(iter(dimensions_of(encoded)), None))
            copied_from = {name: heads[name].content_hash for name in whole}
            refused = await target.writer.put(target.versions.alias, tenant, encoded, there, False, copied_from)
            if refused:
                raise Unavailable(f"the next version does not take {refused}")

    async def _pages(self, store: ElasticsearchStore) -> AsyncIterator[dict[str, dict[str, Head]]]:
        """Tenant -> document id -> head, page by page, as they were when this began."""
        name, budget_s = store.versions.alias, self._config.write_timeout_s
        opened = await self._connection.call("POST", f"/{name}/_pit", None, {"keep_alive": "5m"}, budget_s)
        body = {
            "pit": {"id": opened["id"], "keep_alive": "5m"},
            "query": {"exists": {"field": "num_records"}},
            "sort": ["_shard_doc"],
            "size": PAGE_DOCUMENTS,
            "_source": False,
            "docvalue_fields": ["tenant", "document", "content_hash", "num_records"],
        }
        try:
            while hits := (await self._connection.call("POST", "/_search", body, None, budget_s))["hits"]["hits"]:
                yield _by_tenant([hit["fields"] for hit in hits])
                body["search_after"] = hits[-1]["sort"]
        finally:
            await self._connection.call("DELETE", "/_pit", {"id": opened["id"]}, None, budget_s)


def _by_tenant(rows: list[dict[str, list]]) -> dict[str, dict[str, Head]]:
    page: dict[str, dict[str, Head]] = defaultdict(dict)
    for row in rows:
        head = Head(row["num_records"][0], row["content_hash"][0], None, [])
        page[row["tenant"][0]][row["document"][0]] = head
    return page


def _is_copy(copy: Head | None, original: Head) -> bool:
    return copy is not None and original.content_hash in (copy.copied_from, copy.content_hash)
