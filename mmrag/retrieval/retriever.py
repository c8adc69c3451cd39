"""From a query to passages: branches, fusion, evidence."""

import asyncio
import logging
import time

import numpy as np

from mmrag.config import RetrieverConfig
from mmrag.errors import Unavailable
from mmrag.retrieval.rank_fusion import Fused, fuse, ranks
from mmrag.retrieval.store import Candidates, Key, Scored, Store
from mmrag.types import Evidence, Passage, SearchRequest

log = logging.getLogger(__name__)


class Retriever:
    """Searches a store by every branch at once and fuses the rankings.

    What is ranked is the passage, so several passages of one long document may be among the results. Branches
    that find a document rather than a place in it (its picture or its label matched) credit the one passage of it
    that stands best by the other branches, or where none does, the passage that fits the query best: a picture
    speaks for its document once, and does not fill the list with it.
    """

    def __init__(self, store: Store, config: RetrieverConfig = RetrieverConfig()):
        self.store = store
        self._weights = config.weights.model_dump()
        self._rank_constant = config.rank_constant
        self._num_candidates = config.candidates_per_branch
        self._requires_evidence = config.requires_evidence

    async def search(self, requests: list[SearchRequest]) -> list[Evidence]:
        """The best `top_k` passages for each request, best first; requests in one call share their way to the store.

        Raises:
            InvalidRequest: a filter that cannot be.
            ConfigurationError: the embeddings do not fit those in the store.
            Unavailable: the store does not answer; or, where evidence is required, a branch of it does not.
        """
        count = max([self._num_candidates, *(request.top_k for request in requests)])
        candidates = await self.store.candidates(requests, count)
        degraded = [self._complaints(branches) for branches in candidates]
        found = [self._switched_on(branches) for branches in candidates]
        fused = [self._fuse(branches, request.top_k) for request, branches in zip(requests, found, strict=True)]
        passages = await self.store.passages(requests, [[item.key for item in items] for items in fused], candidates)
        for request, branches, items, results in zip(requests, found, fused, passages, strict=True):
            _describe(results, request, items, branches)
        evidence = [Evidence(results, notes) for results, notes in zip(passages, degraded, strict=True)]
        for request, one in zip(requests, evidence, strict=True):
            if request.filters and not one and not one.degraded:
                one.metadata_fields = await self._fields(request)
        return evidence

    async def _fields(self, request: SearchRequest) -> list[str]:
        # They only help to ask better: for want of them nobody's evidence is thrown away, or waits beyond a deadline.
        left_s = None if request.deadline_s is None else (request.deadline_s - time.time()) / 2
        try:
            async with asyncio.timeout(left_s):
                return await self.store.metadata_fields(request.tenant, request.filters)
        except (Unavailable, TimeoutError) as error:
            log.warning("the fields to filter on are not known: %r", error)
            return []

    def _complaints(self, candidates: Candidates) -> list[str]:
        if candidates.degraded:
            # What exactly is wrong is for the log; callers are told which branch is missing.
            log.warning("the knowledge base answers in part: %s", "; ".join(candidates.degraded))
            if self._requires_evidence:
                raise Unavailable("a part of the knowledge base does not answer")
        names = [note.partition(":")[0] for note in candidates.degraded]
        return [f"{name}: this branch of the search does not answer" for name in names if self._weights[name] > 0]

    def _switched_on(self, branches: dict[str, Scored]) -> dict[str, Scored]:
        return {name: scored for name, scored in branches.items() if self._weights[name] > 0}

    def _fuse(self, branches: dict[str, Scored], count: int) -> list[Fused[Key]]:
        rankings = {name: ranks(scored) for name, scored in branches.items()}
        best_passage: dict[str, Key] = {}
        for item in fuse(_rivals(rankings), self._weights, self._rank_constant):
            best_passage.setdefault(item.key[0], item.key)
        credited = {
            name: {best_passage.get(key[0], key) if key[1] is None else key: rank for key, rank in ranking.items()}
            for name, ranking in rankings.items()
        }
        return fuse(credited, self._weights, self._rank_constant, count)


def _rivals(rankings: dict[str, dict[Key, int]]) -> dict[str, dict[Key, int]]:
    """The passages of those documents that some branch found as a whole."""
    whole = {document for ranking in rankings.values() for document, position in ranking if position is None}
    return {
        name: {key: rank for key, rank in ranking.items() if key[1] is not None and key[0] in whole}
        for name, ranking in rankings.items()
        if whole
    }


def _describe(passages: list[Passage], request: SearchRequest, items: list[Fused[Key]], branches: dict) -> None:
    fused_of = {item.key: item for item in items}
    shares = {name: _shares_of_best(branches.get(name, [])) for name in ("bm25", "label")}
    for passage in passages:
        key = (passage.document_id, int(passage.id.rpartition("#")[2]))
        # A key without a passage number has become a passage by now: it is the only one of its document.
        item = fused_of.get(key) or fused_of[(passage.document_id, None)]
        passage.score, passage.branches = item.score, item.ranks
        passage.similarities = _cosines(request, passage)
        for name, share_of in shares.items():
            share = share_of.get(key) or share_of.get((passage.document_id, None))
            if share is not None:
                passage.similarities[name] = share


def _shares_of_best(scored: Scored) -> dict[Key, float]:
    best = max((score for _, score in scored), default=0.0)
    return {key: score / best for key, score in scored} if best > 0 else {}


def _cosines(request: SearchRequest, passage: Passage) -> dict[str, float]:
    queries = {"text": request.text_embedding, "image": request.image_embedding}
    targets = {"text": passage.text_embedding, "image": passage.image_embedding}
    return {
        f"{source}_{target}": float(query @ embedding.astype(np.float32))
        for source, query in queries.items()
        for target, embedding in targets.items()
        if query is not None and embedding is not None
    }
