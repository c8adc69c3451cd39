"""Much at once: a stream of encoded documents into the index, in bounded memory."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator

from mmrag.types import EncodedDocument, IngestReport, Refusal

MAX_CHUNK_DOCUMENTS = 500
MAX_CHUNKS = 3
"""Chunks in memory at a time: one is being made while the others are on their way."""


async def load(
    source: Iterable[EncodedDocument],
    write: Callable[[list[EncodedDocument], IngestReport], Awaitable[None]],
    on_progress: Callable[[IngestReport], None] = lambda report: None,
) -> IngestReport:
    """Write all of `source` in chunks, several at a time; the first error ends it.

    Args:
        on_progress: called after each chunk with the report so far.
    """
    report = IngestReport()
    chunks = _chunks(source)
    running: set[asyncio.Task] = set()

    async def write_one(chunk: list[EncodedDocument]) -> None:
        await write(chunk, report)
        on_progress(report)

    try:
        # The source may read files, or compute: not in the event loop.
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            running.add(asyncio.create_task(write_one(chunk)))
            if len(running) >= MAX_CHUNKS:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
    return report


def note(report: IngestReport, written: list[EncodedDocument], num_unchanged: int, refused: dict[str, str]) -> None:
    """Add to the report what became of a chunk."""
    taken = [encoded for encoded in written if encoded.document.id not in refused]
    report.num_unchanged += num_unchanged
    report.num_upserted += len(taken)
    report.num_passages += sum(len(encoded.passages) for encoded in taken)
    report.num_images += sum(len(encoded.images) for encoded in taken)
    report.refused += [Refusal(document_id, reason) for document_id, reason in refused.items()]


def _chunks(source: Iterable[EncodedDocument]) -> Iterator[list[EncodedDocument]]:
    documents = iter(source)
    while chunk := list(itertools.islice(documents, MAX_CHUNK_DOCUMENTS)):
        yield chunk
