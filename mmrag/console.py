"""Answers, reports and progress as text for people."""

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmrag.config import Limits
from mmrag.types import Document, IngestReport, Refusal

MAX_PASSAGE_CHARS = 160


def readable(answer: dict[str, Any]) -> str:
    """An answer or a search result: what was said, then what it rests on, then where the time went."""
    shares = (answer.get("attribution") or {}).get("passages", {})
    lines = [_bold(answer["answer"])] if "answer" in answer else []
    lines += [f"  {label['label']:<30} {100 * label['score']:5.1f} %" for label in answer.get("labels") or []]
    for rank, passage in enumerate(answer["passages"], 1):
        lines += _passage_lines(rank, passage, shares.get(passage["id"]))
    if not answer["passages"]:
        lines.append("  nothing was found: fill the knowledge base with `mmrag ingest PATH`, or leave filters out")
    lines += [f"  degraded: {note}" for note in answer.get("degraded", [])]
    if timings := answer.get("timings_ms"):
        lines.append("     " + "  ".join(f"{stage} {duration_ms:.0f} ms" for stage, duration_ms in timings.items()))
    return "\n".join(lines)


def print_report(report: IngestReport) -> None:
    """What an ingest did; the refusals go to stderr."""
    print(
        f"{report.num_upserted:,} documents written ({report.num_passages:,} passages, {report.num_images:,} images), "
        f"{report.num_unchanged:,} unchanged, {len(report.refused):,} refused"
    )
    for refusal in report.refused:
        is_named = refusal.reason.startswith(refusal.document_id)
        print(f"  refused {'' if is_named else f'{refusal.document_id}: '}{refusal.reason}", file=sys.stderr)


def documents_with_progress(path: Path, limits: Limits = Limits()) -> "tqdm[Document | Refusal]":
    """What `read_documents` yields, with a bar on stderr that shows how much of it has been taken."""
    from mmrag.knowledge.sources import count_documents, read_documents

    documents = read_documents(path, limits)
    return tqdm(documents, total=count_documents(path) or None, desc=f"ingesting {path}", unit=" documents")


def _passage_lines(rank: int, passage: dict[str, Any], share: float | None) -> list[str]:
    found_by = ", ".join(f"{branch} #{at}" for branch, at in passage["branches"].items())
    copied = "" if share is None else f"  {100 * share:.0f} % of the answer"
    head = f"{rank:>3}. {passage['title']}  [{passage['id']}]  {found_by}{copied}"
    return [head, f"     {_shortened(passage['text'])}"]


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_PASSAGE_CHARS else flat[: MAX_PASSAGE_CHARS - 1] + "…"


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text
