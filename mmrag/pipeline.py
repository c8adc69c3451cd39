"""The way of a query: embed, retrieve, decode. Read this file first.

`Pipeline` is given its parts and does not care where they run: plain objects in a test, models in this process
for the command line, Ray Serve handles in the cluster. A part that is down costs the answer what that part would
have added, and the answer says so in `degraded`; only without anything to search with, or without the decoder,
there is no answer.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np

from mmrag.batching import together
from mmrag.cache import EmbeddingCache
from mmrag.cached_encoders import CachedEncoders
from mmrag.config import Limits
from mmrag.errors import DeadlineExceeded, Unavailable
from mmrag.knowledge.ingest import Ingestor
from mmrag.knowledge.passages import Splitter
from mmrag.parts import Decoder, EmbedsImages, EmbedsTexts, Knowledge
from mmrag.trace import Trace
from mmrag.types import (
    DEFAULT_NEW_TOKENS,
    Answer,
    Decoded,
    DecodeRequest,
    Document,
    Evidence,
    IngestReport,
    Passage,
    Query,
    Refusal,
    SearchRequest,
    StoredImage,
)
from mmrag.validation import check_filter_fields, check_query

UPSERT_TIMEOUT_FACTOR = 10
"""Documents may take this many times as long as a question."""


@dataclass(slots=True)
class _Embedded:
    """What the encoders made of a query: text float32 [dimension], image likewise, grid float16 [regions, d]."""

    text: np.ndarray | None = None
    image: np.ndarray | None = None
    grid: np.ndarray | None = None


class Pipeline:
    """Answers queries from a knowledge base. See the module's docstring."""

    def __init__(
        self,
        *,
        text_encoder: EmbedsTexts,
        image_encoder: EmbedsImages,
        retriever: Knowledge,
        decoder: Decoder,
        splitter: Splitter,
        cache: EmbeddingCache,
        limits: Limits = Limits(),
        requires_evidence: bool = False,
    ):
        self._encoders = CachedEncoders(text_encoder, image_encoder, cache, limits)
        self._retriever = retriever
        self._decoder = decoder
        self._limits = limits
        self._requires_evidence = requires_evidence
        self._ingestor = Ingestor(text_encoder, image_encoder, retriever, splitter, limits)

    async def answer(self, query: Query) -> Answer:
        """Answer `query`.

        Raises:
            InvalidRequest: the query is empty, malformed or beyond a limit, or filters on a field that there is not.
            DeadlineExceeded, Overloaded, Unavailable: as their names say.
        """
        trace, query = Trace(), self._bounded(query)
        async with _until(query.deadline_s):
            embedded, passages = await self._gather_evidence(query, trace)
            with trace.stage("decode"):
                [decoded] = await self._decoder.decode([_decode_request(query, embedded, passages)])
        return _answer(decoded, passages, trace)

    async def stream(self, query: Query) -> AsyncIterator[str | Answer]:
        """Like `answer`, but yields the text in pieces as it is written, and the whole Answer last."""
        trace, query = Trace(), self._bounded(query)
        decoded: Decoded | None = None
        async with _until(query.deadline_s):
            embedded, passages = await self._gather_evidence(query, trace)
            with trace.stage("decode"):
                async for piece in self._decoder.stream(_decode_request(query, embedded, passages)):
                    if isinstance(piece, Decoded):
                        decoded = piece
                    else:
                        yield piece
        if decoded is None:
            raise Unavailable("the decoder stopped before the answer was whole")
        yield _answer(decoded, passages, trace)

    async def search(self, query: Query) -> Answer:
        """The passages for `query`, as an Answer whose text is empty."""
        trace, query = Trace(), self._bounded(query)
        async with _until(query.deadline_s):
            _, passages = await self._gather_evidence(query, trace)
        return _answer(Decoded(text=""), passages, trace)

    async def embed(self, inputs: list[str | bytes]) -> np.ndarray:
        """Embed texts (str) and encoded images (bytes) into the one space: float32 [n, dimension].

        Raises InvalidRequest, DeadlineExceeded, Overloaded, Unavailable.
        """
        texts = [i for i, value in enumerate(inputs) if isinstance(value, str)]
        images = [i for i, value in enumerate(inputs) if isinstance(value, bytes)]
        async with _until(time.time() + self._limits.timeout_s):
            if not images:  # as programs ask; two tasks more would cost what a cache hit costs
                return np.stack(await self._encoders.texts(inputs))
            text_embeddings, image_embeddings = await together(
                [self._encoders.texts([inputs[i] for i in texts]), self._encoders.images([inputs[i] for i in images])]
            )
        by_position = dict(zip(texts, text_embeddings, strict=True))
        by_position |= {i: embedding for i, (embedding, _) in zip(images, image_embeddings, strict=True)}
        return np.stack([by_position[i] for i in range(len(inputs))])

    async def upsert(self, tenant: str, documents: list[Document]) -> IngestReport:
        """Write all of the documents, or raise and write none; searchable when this returns.

        After DeadlineExceeded they may or may not have been written: write them again.
        """
        async with _until(time.time() + UPSERT_TIMEOUT_FACTOR * self._limits.timeout_s):
            return await self._ingestor.add(tenant, documents)

    async def ingest(
        self,
        tenant: str,
        source: Iterable[Document | Refusal],
        on_progress: Callable[[IngestReport], None] = lambda report: None,
    ) -> IngestReport:
        """Write those documents that can be taken, skip the unchanged, report the others; see `Ingestor.add_each`."""
        return await self._ingestor.add_each(tenant, source, on_progress)

    async def get(self, tenant: str, document_id: str) -> Document:
        """The document as it was given; raises NotFound."""
        return await self._retriever.get(tenant, document_id)

    async def delete(self, tenant: str, document_id: str) -> None:
        """Delete the document; no branch finds it when this returns. Raises NotFound."""
        await self._retriever.delete(tenant, document_id)

    async def image(self, tenant: str, image_id: str) -> StoredImage:
        """A picture of one of the tenant's documents; raises NotFound."""
        return await self._retriever.image(tenant, image_id)

    async def _gather_evidence(self, query: Query, trace: Trace) -> tuple[_Embedded, Evidence]:
        check_query(query, self._limits)
        embedded = await self._embed_query(query, trace)
        if embedded.image is None and not query.text:
            raise Unavailable("the image encoder is down, and an image is all there is to search with")
        request = _search_request(query, embedded)
        search = self._retriever.search([request])
        found = await search if self._requires_evidence else await trace.or_degrade("retriever", search)
        evidence = found[0] if found else Evidence()
        check_filter_fields(query.filters, evidence.metadata_fields)
        trace.degraded += [f"retriever: {note}" for note in evidence.degraded]
        return embedded, evidence

    async def _embed_query(self, query: Query, trace: Trace) -> _Embedded:
        embedded = _Embedded()

        async def embed_text() -> None:
            if found := await trace.or_degrade("text_encoder", self._encoders.texts([query.text])):
                embedded.text = found[0]

        async def embed_image() -> None:
            if found := await trace.or_degrade("image_encoder", self._encoders.images([query.image])):
                embedded.image, embedded.grid = found[0]

        wanted = ([embed_text()] if query.text else []) + ([embed_image()] if query.image is not None else [])
        await together(wanted)
        return embedded

    def _bounded(self, query: Query) -> Query:
        deadline_s, max_new_tokens = query.deadline_s, query.max_new_tokens
        if deadline_s is None:
            deadline_s = time.time() + self._limits.timeout_s
        if max_new_tokens is None:
            max_new_tokens = min(DEFAULT_NEW_TOKENS, self._limits.max_new_tokens)
        return replace(query, deadline_s=deadline_s, max_new_tokens=max_new_tokens)


@asynccontextmanager
async def _until(deadline_s: float):
    try:
        async with asyncio.timeout(deadline_s - time.time()):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded("this request could not be done in the time given to it") from error


def _search_request(query: Query, embedded: _Embedded) -> SearchRequest:
    return SearchRequest(
        text=query.text,
        text_embedding=embedded.text,
        image_embedding=embedded.image,
        top_k=query.top_k,
        filters=query.filters,
        tenant=query.tenant,
        deadline_s=query.deadline_s,
    )


def _decode_request(query: Query, embedded: _Embedded, passages: list[Passage]) -> DecodeRequest:
    return DecodeRequest(
        text=query.text,
        text_embedding=embedded.text,
        image_embedding=embedded.image,
        image_grid=embedded.grid,
        passages=passages,
        task=query.task,
        labels=query.labels,
        max_new_tokens=query.max_new_tokens,
        explain=query.explain,
        sampling=query.sampling,
        deadline_s=query.deadline_s,
    )


def _answer(decoded: Decoded, passages: list[Passage], trace: Trace) -> Answer:
    trace.timings_ms |= {f"decode_{name}": value for name, value in decoded.timings_ms.items()}
    trace.end()
    return Answer(
        id=f"ans-{uuid.uuid4().hex}",
        answer=decoded.text,
        finish_reason=decoded.finish_reason,
        passages=passages,
        labels=decoded.labels,
        attribution=decoded.attribution,
        degraded=trace.degraded,
        timings_ms=trace.timings_ms,
    )
