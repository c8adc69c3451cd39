"""Documents into the store: check, skip what is unchanged, cut, encode, write."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from mmrag.config import Limits
from mmrag.errors import InvalidRequest, TooLarge
from mmrag.images import MAX_DECODED, decode_image, image_id, sniff_media_type
from mmrag.knowledge.passages import Span, Splitter
from mmrag.parts import EmbedsImages, EmbedsTexts, Writes
from mmrag.types import (
    Document,
    EncodedDocument,
    EncodedImage,
    EncodedPassage,
    IngestReport,
    Refusal,
    StoredImage,
)
from mmrag.validation import check_document

MAX_BATCH_DOCUMENTS = 64
MAX_BATCH_TEXTS = 128
MAX_NAMED = 5
"""Of the documents that are at fault so many are named in an error."""

MAX_TITLE_CHARS = 200
"""Of a longer title only this much goes into the embedding of each passage."""


class Ingestor:
    """Puts documents into the store. Encoders and store are awaited: they may live in other processes.

    A document is written wholly or not at all, and one that is stored already with the same content is skipped: an
    ingest that was killed may be started again and does only what is missing.
    """

    def __init__(
        self,
        text_encoder: EmbedsTexts,
        image_encoder: EmbedsImages,
        store: Writes,
        splitter: Splitter,
        limits: Limits = Limits(),
    ):
        self._text_encoder = text_encoder
        self._image_encoder = image_encoder
        self._store = store
        self._splitter = splitter
        self._limits = limits

    async def add(self, tenant: str, documents: list[Document]) -> IngestReport:
        """Write all of the documents, or none of them.

        Raises:
            InvalidRequest (or a kind of it): some cannot be taken. The message names each, `param` the first.
        """
        if len(documents) > self._limits.max_documents:
            raise TooLarge(f"at most {self._limits.max_documents} documents are taken at once", param="documents")
        report = IngestReport()
        encoded, errors = await self._encode(tenant, documents, report, is_strict=True)
        if errors:
            raise refusal_of_all([document.id for document in documents], errors)
        await self._write(tenant, encoded, report)
        return report

    async def add_each(
        self,
        tenant: str,
        source: Iterable[Document | Refusal],
        on_progress: Callable[[IngestReport], None] = lambda report: None,
    ) -> IngestReport:
        """Write those documents that can be taken, batch by batch, and report the others.

        Args:
            on_progress: called after each batch with the report so far.
        """
        report = IngestReport()
        batches = _batches(source)
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            documents = [item for item in batch if isinstance(item, Document)]
            report.refused += [item for item in batch if isinstance(item, Refusal)]
            encoded, errors = await self._encode(tenant, documents, report, is_strict=False)
            for i, error in sorted(errors.items()):
                report.refused.append(Refusal(documents[i].id, str(error), error.param))
            await self._write(tenant, encoded, report)
            on_progress(report)
        return report

    async def _write(self, tenant: str, encoded: list[EncodedDocument], report: IngestReport) -> None:
        if encoded:
            await self._store.upsert(tenant, encoded)
        report.num_upserted += len(encoded)
        report.num_passages += sum(len(document.passages) for document in encoded)
        report.num_images += sum(len(document.images) for document in encoded)

    async def _encode(
        self, tenant: str, documents: list[Document], report: IngestReport, is_strict: bool
    ) -> tuple[list[EncodedDocument], dict[int, InvalidRequest]]:
        """The documents that are new or changed, encoded, and the errors by position; strictly: all or only errors."""
        errors = self._check(documents)
        if errors and is_strict:
            return [], errors
        valid = [i for i in range(len(documents)) if i not in errors]
        hashes = await asyncio.to_thread(lambda: {i: self._content_hash(documents[i]) for i in valid})
        stored = await self._store.content_hashes(tenant, [documents[i].id for i in valid])
        changed = [i for i in valid if stored.get(documents[i].id) != hashes[i]]
        pictures, image_errors = await self._encode_images({i: documents[i].images for i in changed})
        errors |= image_errors
        if errors and is_strict:
            return [], errors
        report.num_unchanged += len(valid) - len(changed)
        taken = [i for i in changed if i not in errors]
        passages = await self._encode_texts([documents[i] for i in taken])
        encoded = [
            EncodedDocument(documents[i], hashes[i], cut, pictures[i]) for i, cut in zip(taken, passages, strict=True)
        ]
        return encoded, errors

    def _check(self, documents: list[Document]) -> dict[int, InvalidRequest]:
        errors: dict[int, InvalidRequest] = {}
        first_of_id: dict[str, int] = {}
        for i, document in enumerate(documents):
            try:
                check_document(document, self._limits)
                first = first_of_id.setdefault(document.id, i)
                if first != i:
                    raise InvalidRequest(f"the id {document.id!r} is used twice", param="id")
            except InvalidRequest as error:
                errors[i] = error
        return errors

    async def _encode_images(
        self, images: dict[int, list[bytes]]
    ) -> tuple[dict[int, list[EncodedImage]], dict[int, InvalidRequest]]:
        encoded: dict[int, list[EncodedImage]] = {i: [] for i in images}
        errors: dict[int, InvalidRequest] = {}
        places = [(i, place, content) for i, contents in images.items() for place, content in enumerate(contents)]
        for group in _groups(places, MAX_DECODED):
            decoded = await asyncio.to_thread(_decode_all, group, self._limits, errors)
            if decoded:
                result = await self._image_encoder.embed([pixels for _, _, pixels in decoded])
                for (i, content, _), embedding in zip(decoded, result.embeddings, strict=True):
                    encoded[i].append(EncodedImage(_stored_image(content), embedding))
        return encoded, errors

    async def _encode_texts(self, documents: list[Document]) -> list[list[EncodedPassage]]:
        cut = [await asyncio.to_thread(self._cut, document) for document in documents]
        inputs = [
            _embedding_input(document, passage)
            for document, passages in zip(documents, cut, strict=True)
            for passage in passages
        ]
        embeddings: list[np.ndarray] = []
        for group in _groups([text for text in inputs if text], MAX_BATCH_TEXTS):
            embeddings.extend(await self._text_encoder.embed(group))
        results = iter(embeddings)
        embedding_of = iter([next(results) if text else None for text in inputs])
        for passage in (passage for passages in cut for passage in passages):
            passage.embedding = next(embedding_of)
        return cut

    def _cut(self, document: Document) -> list[EncodedPassage]:
        spans = self._splitter.split(document.text) or [Span(0, 0)]
        return [EncodedPassage(document.text[s.start : s.end], s.start, s.end, None) for s in spans]

    def _content_hash(self, document: Document) -> bytes:
        fields = [document.id, document.title, document.text, document.labels, document.metadata]
        fields += [[image_id(content) for content in document.images], self._splitter.config.model_dump()]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()


def refusal_of_all(ids: Sequence[object], errors: dict[int, InvalidRequest]) -> InvalidRequest:
    """Why none of the documents with these `ids` was written: what is wrong with those at the positions of `errors`."""
    named = [f"documents[{i}] ({ids[i]!r:.80}): {error}" for i, error in sorted(errors.items())]
    shown = "; ".join(named[:MAX_NAMED]) + (f"; and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else "")
    first = min(errors)
    param = ".".join(part for part in (f"documents[{first}]", errors[first].param) if part)
    return type(errors[first])(f"nothing was written, because of {shown}", param=param)


def _decode_all(
    group: list[tuple[int, int, bytes]], limits: Limits, errors: dict[int, InvalidRequest]
) -> list[tuple[int, bytes, np.ndarray]]:
    decoded = []
    for i, place, content in group:
        try:
            decoded.append((i, content, decode_image(content, limits)))
        except InvalidRequest as error:
            error.param = f"images[{place}]"
            errors.setdefault(i, error)
    return decoded


def _stored_image(content: bytes) -> StoredImage:
    return StoredImage(image_id(content), content, sniff_media_type(content))


def _embedding_input(document: Document, passage: EncodedPassage) -> str:
    title = document.title.strip()[:MAX_TITLE_CHARS]
    return ": ".join(part for part in (title, passage.text) if part) or ", ".join(document.labels)


def _batches(source: Iterable[Document | Refusal]) -> Iterator[list[Document | Refusal]]:
    batch: list[Document | Refusal] = []
    num_images = 0
    for item in source:
        batch.append(item)
        num_images += len(item.images) if isinstance(item, Document) else 0
        if len(batch) == MAX_BATCH_DOCUMENTS or num_images >= MAX_DECODED:
            yield batch
            batch, num_images = [], 0
    if batch:
        yield batch


def _groups(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
