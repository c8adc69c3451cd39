"""Writing: bulk requests of bounded size, whose every item is looked at, and written again when it can be."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mmrag.config import ElasticsearchConfig
from mmrag.errors import InvalidRequest, Unavailable
from mmrag.retrieval.elasticsearch.connection import INDEX_GONE, TRANSIENT, Connection, as_lines, pause_s
from mmrag.retrieval.elasticsearch.holding import HELD_BACK, Holds
from mmrag.retrieval.elasticsearch.records import HEAD_FIELDS, Head, head_of, num_records_of, record_id, records_of
from mmrag.retrieval.elasticsearch.searching import Searcher
from mmrag.types import EncodedDocument

log = logging.getLogger(__name__)

MAX_BULK_BYTES = 5 * 2**20

UNFINISHED = {"content_hash": "", "copied_from": None}
"""What the head says of a document while its records are written: it is up to date with nothing."""


@dataclass(slots=True)
class Operation:
    """One line of a bulk, or two: a record to be written, or one to be deleted; and the document it belongs to."""

    lines: bytes
    document_id: str


@dataclass(slots=True)
class Plan:
    """What writing some documents takes. Each step is done when the one before it is."""

    heads_first: list[Operation] = field(default_factory=list)
    records: list[Operation] = field(default_factory=list)
    heads: list[Operation] = field(default_factory=list)


class IndexGone(Unavailable):
    """There is no such index (any more); what was to be written to it can be written to a new one."""


class Writer:
    """Writes and deletes records of one index, by alias or by name."""

    def __init__(self, connection: Connection, config: ElasticsearchConfig):
        self._connection = connection
        self._config = config
        self._holds = Holds(connection, config)

    async def put(
        self, index: str, tenant: str, documents: list[EncodedDocument], heads: dict[str, Head], is_visible: bool,
        copied_from: dict[str, str] = {},  # noqa: B006
    ) -> dict[str, str]:  # fmt: skip
        """Write documents, replacing what `heads` says is there; returns why some were refused, by id.

        A document of one record changes in one step. One that has, or had, several loses its content hash first and
        gets one last: cut off in between, it counts as changed, and the next ingest writes it again over what is there.
        """
        plan = Plan()
        for encoded in documents:
            _plan(plan, tenant, encoded, heads.get(encoded.document.id), copied_from.get(encoded.document.id))
        refused: dict[str, str] = {}
        for step in (plan.heads_first, plan.records, plan.heads):
            step = [operation for operation in step if operation.document_id not in refused]
            refused |= await self.bulk(index, step)
        if is_visible:
            await self.refresh(index)
        return refused

    async def delete(self, index: str, tenant: str, document_ids: dict[str, int], is_visible: bool) -> None:
        """Delete documents, given the number of records that each may have.

        Cut off in between, one of several records counts as changed, like one whose writing was cut off.
        """
        plan = Plan()
        for document_id, num_records in document_ids.items():
            if num_records > 1:
                plan.heads_first.append(_unfinish(tenant, document_id))
            plan.records += [_delete(tenant, document_id, number) for number in range(1, num_records)]
            plan.heads.append(_delete(tenant, document_id, 0))
        for step in (plan.heads_first, plan.records, plan.heads):
            await self.bulk(index, step)
        if is_visible:
            await self.refresh(index)

    async def refresh(self, index: str) -> None:
        """Make all that was written searchable."""
        await self._connection.call("POST", f"/{index}/_refresh", None, None, self._config.write_timeout_s)

    async def bulk(self, index: str, operations: list[Operation]) -> dict[str, str]:
        """Do all of the operations; returns why some were refused for good, by document.

        Raises:
            IndexGone: the index was deleted.
            Unavailable: not all could be done in time.
        """
        refused: dict[str, str] = {}
        for chunk in _chunks(operations):
            refused |= await self._bulk_chunk(index, chunk)
        return refused

    async def _bulk_chunk(self, index: str, operations: list[Operation]) -> dict[str, str]:
        give_up_at = time.monotonic() + self._config.write_timeout_s
        refused: dict[str, str] = {}
        attempt = 0
        while operations:
            try:
                items = await self._bulk_once(index, operations, give_up_at)
            except Unavailable:
                if time.monotonic() > give_up_at:
                    raise
                items = None
            if items is not None:
                operations = _not_done(operations, items, refused)
                if any(_kind(result) == HELD_BACK for item in items for result in item.values()):
                    await self._holds.release_overdue(index)
            if operations:
                if time.monotonic() > give_up_at:
                    raise Unavailable("the knowledge base is too busy to take more; try again later")
                await asyncio.sleep(pause_s(attempt))
                attempt += 1
        return refused

    async def _bulk_once(self, index: str, operations: list[Operation], give_up_at: float) -> list[dict[str, Any]]:
        body = b"".join(operation.lines for operation in operations)
        # An alias that is gone must not become an index without a mapping.
        params = {"require_alias": str("-v" not in index).lower(), "filter_path": "items.*.status,items.*.error"}
        left_s = max(1.0, give_up_at - time.monotonic())
        # Every operation may be done twice with the same effect, so a bulk whose response is lost is sent again.
        found = await self._connection.call("POST", f"/{index}/_bulk", body, params, left_s)
        items = found.get("items", []) if isinstance(found, dict) else []
        if len(items) != len(operations):
            raise Unavailable("the knowledge base answered only in part")
        return items


async def heads(searcher: Searcher, tenant: str, document_ids: list[str]) -> dict[str, Head]:
    """The heads of those of these documents that are stored, as last written."""
    ids = {record_id(tenant, document_id, 0): document_id for document_id in document_ids}
    sources = await searcher.sources(list(ids), HEAD_FIELDS)
    return {ids[key]: head_of(source) for key, source in sources.items()}


def refuse(refused: dict[str, str]) -> None:
    """Raise InvalidRequest where any document was refused."""
    if refused:
        named = "; ".join(f"{document_id!r:.80}: {reason}" for document_id, reason in list(refused.items())[:5])
        raise InvalidRequest(f"the knowledge base does not take {named}", param="documents")


def takes_steps(documents: list[EncodedDocument], heads: dict[str, Head]) -> bool:
    """Whether any of these is more than one record, or was."""
    was = {document_id: head.num_records for document_id, head in heads.items()}
    return any(max(num_records_of(one), was.get(one.document.id, 0)) > 1 for one in documents)


def _plan(plan: Plan, tenant: str, encoded: EncodedDocument, old: Head | None, copied_from: str | None) -> None:
    document_id = encoded.document.id
    records = list(records_of(tenant, encoded, copied_from))
    written = [_index(tenant, document_id, number, record) for number, record in enumerate(records)]
    num_old = old.num_records if old else 0
    if max(len(records), num_old) > 1:
        # Whatever happens now, the head says up to where there may be records, so that none is ever forgotten, and
        # that they may be of two contents.
        unfinished = records[0] | UNFINISHED | {"num_records": max(len(records), num_old)}
        plan.heads_first.append(_index(tenant, document_id, 0, unfinished))
    plan.heads.append(written[0])
    plan.records += written[1:]
    plan.records += [_delete(tenant, document_id, number) for number in range(len(records), num_old)]


def _index(tenant: str, document_id: str, number: int, record: dict[str, Any]) -> Operation:
    return Operation(as_lines({"index": {"_id": record_id(tenant, document_id, number)}}, record), document_id)


def _delete(tenant: str, document_id: str, number: int) -> Operation:
    return Operation(as_lines({"delete": {"_id": record_id(tenant, document_id, number)}}), document_id)


def _unfinish(tenant: str, document_id: str) -> Operation:
    # What is not kept to be read (vectors, words) is lost by this: it is the head of what will be deleted.
    action = {"update": {"_id": record_id(tenant, document_id, 0), "retry_on_conflict": 3}}
    return Operation(as_lines(action, {"doc": UNFINISHED}), document_id)


def _chunks(operations: Iterable[Operation]) -> Iterator[list[Operation]]:
    chunk: list[Operation] = []
    size = 0
    for operation in operations:
        if chunk and size + len(operation.lines) > MAX_BULK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(operation)
        size += len(operation.lines)
    if chunk:
        yield chunk


def _not_done(operations: list[Operation], items: list[dict[str, Any]], refused: dict[str, str]) -> list[Operation]:
    again = []
    for operation, item in zip(operations, items, strict=True):
        [result] = item.values()
        if _may_pass(result):
            again.append(operation)
        elif _kind(result) == INDEX_GONE:
            raise IndexGone("the knowledge base was deleted while it was written to")
        elif "error" in result:
            refused[operation.document_id] = _reason(result["error"])
    if again:
        log.info("Elasticsearch did not take %d of %d records; trying again", len(again), len(items))
    return again


def _may_pass(result: dict[str, Any]) -> bool:
    return result["status"] in TRANSIENT or _kind(result) == HELD_BACK


def _kind(result: dict[str, Any]) -> str | None:
    error = result.get("error")
    return error.get("type") if isinstance(error, dict) else None


def _reason(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    cause = error.get("caused_by") or error
    return str(cause.get("reason") or cause.get("type"))
