"""Reading documents from where people keep them: JSONL, CSV, a folder of pictures and texts."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from mmrag.config import Limits
from mmrag.errors import InvalidRequest, TooLarge
from mmrag.knowledge.files import missing, readable
from mmrag.knowledge.pictures import read_image
from mmrag.knowledge.tables import TABLE_SUFFIXES, count_lines, read_table
from mmrag.types import Document, Refusal

KNOWLEDGE_FILE = "knowledge.jsonl"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
TEXT_SUFFIXES = (".txt", ".md")
FILE_SUFFIXES = (*IMAGE_SUFFIXES, *TEXT_SUFFIXES)
MAX_NAMED = 3
"""Of the files that are left out so many are named."""


def read_documents(path: str | Path, limits: Limits = Limits()) -> Iterator[Document | Refusal]:
    """The documents of a `.jsonl` or `.csv` file, a picture, a text, or a folder of such.

    A folder with a `knowledge.jsonl` is that file. One with other such tables is all of them, and its pictures are
    those that they name. One without is a document for each picture or text: see `_document_of_files`. What is left
    out is refused, in one Refusal.

    Images are named by paths relative to the file, inside its folder, or given as data URIs.

    Raises:
        InvalidRequest: there is nothing at `path` that can be read, a table cannot be read, or a CSV's header is wrong.
    """
    path = Path(path)
    files = _files(path)
    if not _tables(path, files) and not _groups(files):
        raise InvalidRequest(_nothing_at(path), param="path")
    return _refuse_repeated_ids(_read(path, files, limits))


def count_documents(path: str | Path) -> int:
    """About how many documents and refusals `read_documents` will yield; for progress bars."""
    path = Path(path)
    files = _files(path)
    if tables := _tables(path, files):
        return sum(map(count_lines, tables))
    groups = _groups(files)
    leaves_out = len(files) > sum(map(len, groups))
    return len(groups) + leaves_out


def _tables(path: Path, files: list[Path]) -> list[Path]:
    if (path / KNOWLEDGE_FILE).is_file():
        return [path / KNOWLEDGE_FILE]
    return [file for file in files if file.suffix.lower() in TABLE_SUFFIXES]


def _groups(files: list[Path]) -> list[list[Path]]:
    """Pictures and texts; those that differ only in their suffix belong together."""
    read = [file for file in files if file.suffix.lower() in FILE_SUFFIXES]
    read.sort(key=lambda file: (file.with_suffix(""), file.suffix))
    return [list(group) for _, group in groupby(read, key=lambda file: file.with_suffix(""))]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.is_file() else []
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]


def _read(path: Path, files: list[Path], limits: Limits) -> Iterator[Document | Refusal]:
    tables, groups = _tables(path, files), _groups(files)
    named: set[Path] = set()
    for table in tables:
        yield from read_table(table, limits, named)
    if not tables:
        folder = path if path.is_dir() else path.parent
        yield from (_document_of_files(folder, group, limits) for group in groups)
    if path.is_dir() and path / KNOWLEDGE_FILE not in tables:
        read = {*tables, *named} if tables else {file for group in groups for file in group}
        yield from _left_out(path, files, read)


def _left_out(folder: Path, files: list[Path], read: set[Path]) -> Iterator[Refusal]:
    read = {file.resolve() for file in read}
    names = [str(file.relative_to(folder)) for file in files if file.resolve() not in read]
    if names:
        shown = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if names[MAX_NAMED:] else "")
        kinds = f"{', '.join(TABLE_SUFFIXES)}; or, in a folder without these, {', '.join(FILE_SUFFIXES)}"
        yield Refusal(str(folder), f"left out: {shown}. What is read: {kinds}; and pictures that a line names")


def _document_of_files(folder: Path, files: list[Path], limits: Limits) -> Document | Refusal:
    """The files' name is the title; pictures of that name are its images, texts of that name its text."""
    stem = files[0].with_suffix("")
    document_id = stem.relative_to(folder).as_posix()
    try:
        pictures = [str(file.relative_to(folder)) for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        images = [read_image(folder, name, "image", limits) for name in pictures]
        text = "\n".join(_read_text(file, limits) for file in files if file.suffix.lower() in TEXT_SUFFIXES)
        return Document(document_id, re.sub(r"[\s_-]+", " ", stem.name).strip(), text, images)
    except InvalidRequest as error:
        return Refusal(document_id, str(error), error.param)


def _read_text(file: Path, limits: Limits) -> str:
    try:
        with readable(file):
            if file.stat().st_size > 4 * limits.max_document_chars:  # UTF-8 takes four bytes at most
                raise TooLarge(f"{file} has more than {limits.max_document_chars:,} characters", param="text")
            return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} is not UTF-8 text; save it as UTF-8", param="text") from error


def _nothing_at(path: Path) -> str:
    if not path.exists():
        return missing(path)
    kinds = f"{', '.join(TABLE_SUFFIXES)}, {', '.join(FILE_SUFFIXES)}"
    if path.suffix.lower() == ".json":
        return f"{path}: write one JSON object a line, and call the file .jsonl"
    return f"there is nothing in {path} that is read: {kinds}" if path.is_dir() else f"{path} is none of {kinds}"


def _refuse_repeated_ids(documents: Iterable[Document | Refusal]) -> Iterator[Document | Refusal]:
    seen: set[str] = set()
    for item in documents:
        if isinstance(item, Document):
            if item.id in seen:
                item = Refusal(item.id, f"the id {item.id!r} was used before in this source", "id")
            else:
                seen.add(item.id)
        yield item
