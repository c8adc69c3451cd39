"""All branches of all requests in one _msearch, and the passages of what was found in one _mget."""

import asyncio
import logging
import time
from typing import Any

from mmrag.config import ElasticsearchConfig
from mmrag.errors import ConfigurationError, Unavailable
from mmrag.retrieval.best_fit import best_passage, best_picture, passage_query
from mmrag.retrieval.elasticsearch import branches
from mmrag.retrieval.elasticsearch.branches import Branch
from mmrag.retrieval.elasticsearch.connection import INDEX_GONE, TRANSIENT, Connection, as_lines, pause_s
from mmrag.retrieval.elasticsearch.record_cache import RecordCache
from mmrag.retrieval.elasticsearch.records import Record, belongs, record_id, vector_of
from mmrag.retrieval.elasticsearch.scope import scope
from mmrag.retrieval.elasticsearch.versions import Version, Versions
from mmrag.retrieval.store import Candidates, Key
from mmrag.types import Passage, SearchRequest

log = logging.getLogger(__name__)

PLACE = ["position", "content_hash", "stored.embedding"]
"""All of a record that tells how well it fits."""


class Searcher:
    """Reads for answers; see `mmrag.retrieval.store.Store`."""

    def __init__(self, connection: Connection, versions: Versions, config: ElasticsearchConfig):
        self._connection = connection
        self._versions = versions
        self._config = config
        self.cache = RecordCache()
        versions.on_forget = lambda: self.cache.clear()

    async def candidates(self, requests: list[SearchRequest], count: int) -> list[Candidates]:
        """For each request and branch the best candidates; a branch that does not answer is named in `degraded`."""
        for request in requests:
            scope(request.tenant, request.filters)  # what cannot be is refused, whether or not anything is stored
        version = await self._versions.current()
        if version is None:
            return [Candidates() for _ in requests]
        _check_dimensions(requests, version)
        budget_s = _budget_s(requests, self._config.timeout_s)
        asked = [
            (i, branch)
            for i, request in enumerate(requests)
            for branch in branches.branches_of(
                request, self._config, version.dimension is not None, count, int(1000 * budget_s)
            )
        ]
        responses = await self._ask([branch for _, branch in asked], budget_s)
        if any(response.get("status") in (400, 404) for response in responses):
            self._versions.forget()  # the index is another than it was
        return _gathered(requests, asked, responses, count)

    async def passages(
        self, requests: list[SearchRequest], keys: list[list[Key]], candidates: list[Candidates]
    ) -> list[list[Passage]]:
        """The passages of these keys in order."""
        wanted = [(request, key) for request, of_request in zip(requests, keys, strict=True) for key in of_request]
        sources = self._remembered(requests, keys, candidates)
        # Record 0 is what the document is as a whole, and its first passage: often that is all there is to it.
        ids = {record_id(request.tenant, document, n or 0) for request, (document, n) in wanted}
        ids |= {record_id(request.tenant, document, 0) for request, (document, _) in wanted}
        give_up_at = time.monotonic() + _budget_s(requests, self._config.timeout_s)
        sources |= await self._read(ids - sources.keys(), give_up_at)
        places = await self._places(wanted, sources, give_up_at)
        placed = {
            record_id(request.tenant, document, place)
            for (request, (document, _)), place in zip(wanted, places, strict=True)
        }
        sources |= await self._read(placed - ids, give_up_at)
        found = iter(
            [_passage(request, key[0], place, sources) for (request, key), place in zip(wanted, places, strict=True)]
        )
        return [[passage for _ in of_request if (passage := next(found))] for of_request in keys]

    def _remembered(
        self, requests: list[SearchRequest], keys: list[list[Key]], candidates: list[Candidates]
    ) -> dict[str, Record]:
        found = {}
        for request, of_request, branches_found in zip(requests, keys, candidates, strict=True):
            for document, _ in of_request:
                head = record_id(request.tenant, document, 0)
                if record := self.cache.get(head, branches_found.content_hashes.get(document)):
                    found[head] = record
        return found

    async def _read(self, ids: set[str], give_up_at: float) -> dict[str, Record]:
        sources = await self.sources(sorted(ids), budget_s=_left_s(give_up_at))
        self.cache.keep(sources)
        return sources

    async def sources(
        self, ids: list[str], fields: list[str] | None = None, budget_s: float | None = None
    ) -> dict[str, dict[str, Any]]:
        """The `_source` of those of these records that exist, as last written, whether searchable yet or not.

        Args:
            fields: only these of it; None: all, which costs Elasticsearch less, as it need not read them itself.
        """
        if not ids:
            return {}
        params = {"_source_includes": ",".join(fields)} if fields else {}
        found = await self._versions.read("_mget", {"ids": ids}, params, budget_s)
        if found is None:
            return {}
        failed = [item["error"] for item in found["docs"] if "error" in item]
        if any(error.get("type") != INDEX_GONE for error in failed):
            raise Unavailable("a part of the knowledge base does not answer")
        if failed:
            self._versions.forget()
        return {item["_id"]: item["_source"] for item in found["docs"] if item.get("found")}

    async def _ask(self, asked: list[Branch], budget_s: float) -> list[dict[str, Any]]:
        """The response to each; those whose trouble may pass are asked again while there is time."""
        give_up_at = time.monotonic() + budget_s
        responses: list[dict[str, Any]] = [{} for _ in asked]
        pending = list(range(len(asked)))
        for attempt in range(self._config.max_retries + 1):
            left_s = give_up_at - time.monotonic()
            try:
                found = await self._msearch([asked[i] for i in pending], left_s)
            except Unavailable:
                if attempt == 0:
                    raise
                break  # what the other branches found is worth having
            for i, response in zip(pending, found, strict=True):
                responses[i] = response
            pending = [i for i in pending if responses[i].get("status") in TRANSIENT]
            pause = pause_s(attempt)
            if not pending or time.monotonic() + pause > give_up_at:
                break
            await asyncio.sleep(pause)
        return responses

    async def _msearch(self, asked: list[Branch], budget_s: float) -> list[dict[str, Any]]:
        if not asked:
            return []
        # Where the words are on several shards, all of them count a word's documents together.
        headers = [{"search_type": "dfs_query_then_fetch"} if branch.name == "bm25" else {} for branch in asked]
        lines = as_lines(*(part for pair in zip(headers, (b.body for b in asked), strict=True) for part in pair))
        params = {"filter_path": branches.RESPONSE}
        found = await self._connection.call("POST", f"/{self._versions.alias}/_msearch", lines, params, budget_s)
        responses = found.get("responses", []) if isinstance(found, dict) else []
        if len(responses) != len(asked):
            raise Unavailable("the knowledge base answered only in part")
        return responses

    async def _places(
        self, wanted: list[tuple[SearchRequest, Key]], sources: dict[str, dict[str, Any]], give_up_at: float
    ) -> list[int]:
        # Where a document was found, not a place in it, the passage that fits best stands for it.
        places = [position or 0 for _, (_, position) in wanted]
        heads = {
            i: sources[record_id(request.tenant, key[0], 0)]
            for i, (request, key) in enumerate(wanted)
            if _is_open(request, key, sources)
        }
        left_s = _left_s(give_up_at)
        found = await asyncio.gather(*(self._best_place(wanted[i][0], head, left_s) for i, head in heads.items()))
        for i, place in zip(heads, found, strict=True):
            places[i] = place
        return places

    async def _best_place(self, request: SearchRequest, head: Record, budget_s: float) -> int:
        query = [*scope(request.tenant), {"term": {"document": head["document"]}}]
        body = {"query": {"bool": {"filter": query}}, "size": 10_000, "_source": PLACE}
        found = await self._versions.read("_search", body, {"filter_path": "hits.hits._source"}, budget_s)
        hits = [hit["_source"] for hit in (found or {}).get("hits", {}).get("hits", [])]
        sources = sorted((source for source in hits if belongs(source, head)), key=_position)
        embeddings = [vector_of(source.get("stored", {}).get("embedding")) for source in sources]
        return _position(sources[best_passage(request, embeddings)]) if sources else 0


def _position(source: dict[str, Any]) -> int:
    return source["position"]


def _is_open(request: SearchRequest, key: Key, sources: dict[str, dict[str, Any]]) -> bool:
    document, position = key
    head = sources.get(record_id(request.tenant, document, 0)) if position is None else None
    if head is None or passage_query(request) is None:
        return False
    return head["stored"]["document"]["num_passages"] > 1


def _check_dimensions(requests: list[SearchRequest], version: Version) -> None:
    for request in requests:
        for embedding in (request.text_embedding, request.image_embedding):
            if embedding is not None and version.dimension not in (None, len(embedding)):
                raise ConfigurationError(
                    f"the query's embedding has {len(embedding)} dimensions, the knowledge base "
                    f"{version.dimension}; serve with the encoders it was ingested with, or run mmrag reindex"
                )


def _budget_s(requests: list[SearchRequest], timeout_s: float) -> float:
    # Half of the time that is left, so that there is some for the answer, with what was found or without; of the one
    # who has most: who has less ends its own waiting, and must not end that of the others.
    now_s = time.time()
    left_s = [timeout_s if one.deadline_s is None else (one.deadline_s - now_s) / 2 for one in requests]
    return max(0.01, min(timeout_s, max(left_s, default=timeout_s)))


def _left_s(give_up_at: float) -> float:
    return max(0.01, give_up_at - time.monotonic())


def _gathered(
    requests: list[SearchRequest], asked: list[tuple[int, Branch]], responses: list[dict[str, Any]], count: int
) -> list[Candidates]:
    found = [Candidates({"bm25": [], "label": []} if request.text else {}) for request in requests]
    for (i, branch), response in zip(asked, responses, strict=True):
        # What the shards that answered found, or found in time, is worth having.
        if "error" not in response:
            found[i][branch.name] = branches.scored(branch, response, count)
            found[i].content_hashes |= branches.content_hashes(response)
        else:
            found[i].pop(branch.name, None)
        if problem := branches.trouble(response):
            found[i].degraded.append(f"{branch.name}: {problem}")
    if asked and all("error" in response for response in responses):
        log.warning("no branch of a search has an answer: %s", "; ".join(found[asked[0][0]].degraded))
        raise Unavailable("the knowledge base does not answer")
    return found


def _passage(
    request: SearchRequest, document: str, position: int, sources: dict[str, dict[str, Any]]
) -> Passage | None:
    head = sources.get(record_id(request.tenant, document, 0))
    record = sources.get(record_id(request.tenant, document, position))
    if head is None or record is None or "text" not in record["stored"] or head["tenant"] != request.tenant:
        return None
    if not belongs(record, head):  # another content's, which was written over or is being written
        return None
    whole, stored = head["stored"]["document"], record["stored"]
    pictures = whole["pictures"]
    best = best_picture(request, [vector_of(picture["embedding"]) for picture in pictures])
    picture = pictures[best] if pictures else None
    return Passage(
        id=f"{document}#{position}", document_id=document, title=whole["title"], text=stored["text"],
        start=stored["start"], end=stored["end"], image_id=picture and picture["id"], labels=whole["labels"],
        metadata=whole["metadata"], text_embedding=vector_of(stored.get("embedding")),
        image_embedding=vector_of(picture and picture["embedding"]),
    )  # fmt: skip
