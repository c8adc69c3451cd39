"""Reading documents from JSONL and CSV, one a line. A bad line becomes a Refusal and stops nothing."""

import csv
import difflib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from mmrag.config import Limits
from mmrag.errors import InvalidRequest
from mmrag.knowledge.files import readable
from mmrag.knowledge.pictures import read_image
from mmrag.near_miss import near_miss
from mmrag.types import Document, MetadataValue, Refusal

JSONL_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (*JSONL_SUFFIXES, ".csv")
_FIELDS = ("id", "title", "text", "image", "images", "labels", "metadata")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d+)?")


def read_table(path: Path, limits: Limits = Limits(), named: set[Path] | None = None) -> Iterator[Document | Refusal]:
    """The documents of a JSONL or CSV file; see `read_jsonl` and `read_csv`.

    Args:
        named: the pictures that lines name by their paths are added to it.
    """
    read = read_jsonl if path.suffix.lower() in JSONL_SUFFIXES else read_csv
    return read(path, limits, set() if named is None else named)


def count_lines(path: Path) -> int:
    """How many documents and refusals `read_table` will yield; 0 where that is found out only by reading."""
    with suppress(csv.Error, OSError):
        if path.suffix.lower() in JSONL_SUFFIXES:
            with path.open("rb") as file:
                return sum(1 for line in file if line.strip())
        with _open_csv(path) as file:
            return max(0, sum(1 for row in csv.reader(file, delimiter=_delimiter(file)) if row) - 1)
    return 0


def read_jsonl(path: Path, limits: Limits, named: set[Path]) -> Iterator[Document | Refusal]:
    """One object a line: `{"id", "title"?, "text"?, "image"?, "images"?: [], "labels"?: [], "metadata"?: {}}`."""
    with readable(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _guard(path, number, lambda line=line: json.loads(line.decode("utf-8-sig")), limits, named)


def read_csv(path: Path, limits: Limits, named: set[Path]) -> Iterator[Document | Refusal]:
    """Columns `id`, `title`, `text`, `image`, `images`, `labels`; every other column is a metadata field.

    Several images or labels in a cell are separated by semicolons. Numbers, `true` and `false` are read as such. Cells
    are separated by commas, or as the header is, by semicolons or tabs.

    Raises:
        InvalidRequest: the file cannot be read, or its header is wrong.
    """
    csv.field_size_limit(limits.max_document_chars * 2)
    with readable(path), _open_csv(path) as file:
        rows = _rows_below_header(path, file)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield _refusal(path, rows.line_num, InvalidRequest(f"this is not CSV: {error}"))
                continue
            if row is None:
                return
            yield _guard(path, rows.line_num, lambda row=row: _fields_of_row(_utf8(row)), limits, named)


def _open_csv(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", newline="", errors="surrogateescape")


def _rows_below_header(path: Path, file: TextIO) -> csv.DictReader:
    try:
        rows = csv.DictReader(file, strict=True, delimiter=_delimiter(file))
        columns = rows.fieldnames or []
    except csv.Error as error:
        raise InvalidRequest(f"{path.name}:1: the header is not CSV: {error}", param="path") from error
    _check_header(path, columns)
    return rows


def _delimiter(file: TextIO) -> str:
    """Spreadsheets separate cells by what their language uses."""
    header = file.readline()
    file.seek(0)
    return next((mark for mark in ",;\t" if "id" in next(csv.reader([header], delimiter=mark), [])), ",")


def _utf8(row: dict) -> dict:
    try:
        "\n".join(str(value) for value in row.values()).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest('this line is not in UTF-8: save the file as "CSV UTF-8"') from error
    return row


def _guard(
    path: Path, line: int, read_fields: Callable[[], Any], limits: Limits, named: set[Path]
) -> Document | Refusal:
    fields: Any = None
    try:
        fields = read_fields()
        return _document(path.parent, fields, limits, named)
    except (ValueError, RecursionError) as error:  # ValueError: also for a number of thousands of digits
        return _refusal(path, line, InvalidRequest(f"this is no JSON object in UTF-8: {error}"))
    except InvalidRequest as error:
        document_id = fields.get("id") if isinstance(fields, dict) else None
        return _refusal(path, line, error, document_id if isinstance(document_id, str) else None)


def _refusal(path: Path, line: int, error: InvalidRequest, document_id: str | None = None) -> Refusal:
    place = f"{path.name}:{line}"
    return Refusal(document_id or place, f"{place}: {error}", error.param)


def _document(folder: Path, fields: Any, limits: Limits, named: set[Path]) -> Document:
    if not isinstance(fields, dict):
        raise InvalidRequest("a line must be an object with id, title, text, images, labels, metadata")
    for name in fields:
        if name not in _FIELDS:
            meant = near_miss(name, _FIELDS)
            raise InvalidRequest(f"unknown field {name!r}{meant}; put fields of your own into metadata", param=name)
    if "id" not in fields:
        raise InvalidRequest("the field id is missing", param="id")
    document_id = str(fields["id"]) if type(fields["id"]) is int else fields["id"]
    names = _list_of_strings(fields, "images")
    names += [_string(fields, "image")] if fields.get("image") else []
    if not isinstance(fields.get("metadata") or {}, dict):
        raise InvalidRequest('metadata must be an object: {"field": value}', param="metadata")
    images = [read_image(folder, name, "images", limits) for name in names]
    named.update(folder / name for name in names if not name.startswith("data:"))
    return Document(
        _string({"id": document_id}, "id"), _string(fields, "title"), _string(fields, "text"), images,
        _list_of_strings(fields, "labels"), fields.get("metadata") or {},
    )  # fmt: skip


def _string(fields: dict, name: str) -> str:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a string, not {json.dumps(value):.80}", param=name)
    return value or ""


def _list_of_strings(fields: dict, name: str) -> list[str]:
    value = fields.get(name) or []
    if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
        raise InvalidRequest(f'{name} must be a list of strings: ["…", "…"]', param=name)
    return list(value)


def _check_header(path: Path, columns: Sequence[str]) -> None:
    if "id" not in columns:
        columns_there = f"the columns are {', '.join(columns)}"
        raise InvalidRequest(
            f"{path.name}:1: there is no column id, to tell documents apart; {columns_there}", param="id"
        )
    for name in columns:
        close = difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.75)
        if close and close[0] not in columns:
            raise InvalidRequest(
                f"{path.name}:1: column {name!r}: did you mean {close[0]!r}? "
                f"If it is metadata, call it 'metadata.{name}'",
                param=name,
            )


def _fields_of_row(row: dict[str | None, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise InvalidRequest("this row has more or fewer cells than the header; quote cells that contain a comma")
    fields: dict[str, Any] = {name: row[name] for name in ("id", "title", "text", "image") if name in row}
    for name in ("images", "labels"):
        fields[name] = [part.strip() for part in row.get(name, "").split(";") if part.strip()]
    fields["metadata"] = {
        name.removeprefix("metadata."): _value(cell)
        for name, cell in row.items()
        if name is not None and name not in _FIELDS and cell.strip()
    }
    return fields


def _value(cell: str) -> MetadataValue:
    if cell in ("true", "false"):
        return cell == "true"
    return json.loads(cell) if _NUMBER.fullmatch(cell) else cell
