"""Reading documents from files: JSONL, CSV, a folder of images. A bad row becomes a Refusal and stops nothing."""

import csv
import difflib
import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from mmrag.config import Limits
from mmrag.errors import InvalidRequest, TooLarge
from mmrag.images import parse_data_uri
from mmrag.types import Document, MetadataValue, Refusal

KNOWLEDGE_FILE = "knowledge.jsonl"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
TEXT_SUFFIXES = (".txt", ".md")
_FIELDS = ("id", "title", "text", "image", "images", "labels", "metadata")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d+)?")


def read_documents(path: str | Path, limits: Limits = Limits()) -> Iterator[Document | Refusal]:
    """The documents of a `.jsonl` or `.csv` file, a folder with a `knowledge.jsonl`, or a folder of images.

    Images are named by paths relative to the file, inside its folder, or given as data URIs. See `read_jsonl`,
    `read_csv` and `read_image_folder` for the formats.

    Raises:
        InvalidRequest: there is nothing at `path` that can be read, or a CSV's header is wrong.
    """
    path = Path(path)
    if not path.exists():
        raise InvalidRequest(_missing(path), param="path")
    if path.is_dir():
        inside = path / KNOWLEDGE_FILE
        documents = read_jsonl(inside, limits) if inside.is_file() else read_image_folder(path, limits)
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        documents = read_jsonl(path, limits)
    elif path.suffix.lower() == ".csv":
        documents = read_csv(path, limits)
    else:
        raise InvalidRequest(f"{path} is no .jsonl file, .csv file or folder", param="path")
    return _refuse_repeated_ids(documents)


def read_jsonl(path: Path, limits: Limits = Limits()) -> Iterator[Document | Refusal]:
    """One object a line: `{"id", "title"?, "text"?, "image"?, "images"?: [], "labels"?: [], "metadata"?: {}}`."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _guard(path, number, lambda line=line: json.loads(line.decode("utf-8-sig")), limits)


def read_csv(path: Path, limits: Limits = Limits()) -> Iterator[Document | Refusal]:
    """Columns `id`, `title`, `text`, `image`, `images`, `labels`; every other column is a metadata field.

    Several images or labels in a cell are separated by semicolons. Numbers, `true` and `false` are read as such.
    """
    csv.field_size_limit(limits.max_document_chars * 2)
    with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
        rows = csv.DictReader(file, strict=True)
        _check_header(path, rows.fieldnames or [])
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield _refusal(path, rows.line_num, InvalidRequest(f"this is not CSV: {error}"))
                continue
            if row is None:
                return
            yield _guard(path, rows.line_num, lambda row=row: _fields_of_row(_utf8(row)), limits)


def _utf8(row: dict) -> dict:
    try:
        "\n".join(str(value) for value in row.values()).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest('this line is not in UTF-8: save the file as "CSV UTF-8"') from error
    return row


def read_image_folder(folder: Path, limits: Limits = Limits()) -> Iterator[Document | Refusal]:
    """A document for each picture, in subfolders too: the file's name is its title, `same-name.txt` or `.md` its text.

    Files that differ only in their suffix are pictures of one document.

    Raises:
        InvalidRequest: there are no images.
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in path.parts)
    )
    if not paths:
        raise InvalidRequest(
            f"{folder} has neither a {KNOWLEDGE_FILE} nor images ({', '.join(IMAGE_SUFFIXES)})", param="path"
        )
    return (
        _document_of_files(folder, stem, list(files), limits)
        for stem, files in groupby(paths, key=lambda path: path.with_suffix(""))
    )


def _document_of_files(folder: Path, stem: Path, files: list[Path], limits: Limits) -> Document | Refusal:
    document_id = stem.relative_to(folder).as_posix()
    try:
        images = [read_image(folder, str(file.relative_to(folder)), "image", limits) for file in files]
        texts = [Path(f"{stem}{suffix}") for suffix in TEXT_SUFFIXES]
        text = "\n".join(path.read_text(encoding="utf-8-sig") for path in texts if path.is_file())
        return Document(document_id, re.sub(r"[\s_-]+", " ", stem.name).strip(), text, images)
    except UnicodeDecodeError:
        return Refusal(document_id, f"{stem}.txt or .md is not UTF-8 text; save it as UTF-8", "text")
    except InvalidRequest as error:
        return Refusal(document_id, str(error), error.param)


def _guard(path: Path, line: int, read_fields, limits: Limits) -> Document | Refusal:
    fields: Any = None
    try:
        fields = read_fields()
        return _document(path.parent, fields, limits)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refusal(path, line, InvalidRequest(f"this is no JSON object in UTF-8: {error}"))
    except InvalidRequest as error:
        document_id = fields.get("id") if isinstance(fields, dict) else None
        return _refusal(path, line, error, document_id if isinstance(document_id, str) else None)


def _refusal(path: Path, line: int, error: InvalidRequest, document_id: str | None = None) -> Refusal:
    place = f"{path.name}:{line}"
    return Refusal(document_id or place, f"{place}: {error}", error.param)


def _document(folder: Path, fields: Any, limits: Limits) -> Document:
    if not isinstance(fields, dict):
        raise InvalidRequest("a line must be an object with id, title, text, images, labels, metadata")
    for name in fields:
        if name not in _FIELDS:
            raise InvalidRequest(f"unknown field {name!r}{_did_you_mean(name)}; put fields of your own into metadata",
                                 param=name)  # fmt: skip
    if "id" not in fields:
        raise InvalidRequest("the field id is missing", param="id")
    document_id = str(fields["id"]) if isinstance(fields["id"], int) else fields["id"]
    names = _list_of_strings(fields, "images")
    names += [_string(fields, "image")] if fields.get("image") else []
    if not isinstance(fields.get("metadata") or {}, dict):
        raise InvalidRequest('metadata must be an object: {"field": value}', param="metadata")
    return Document(
        _string({"id": document_id}, "id"), _string(fields, "title"), _string(fields, "text"),
        [read_image(folder, name, "images", limits) for name in names],
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


def read_image(folder: Path, name: str, param: str, limits: Limits) -> bytes:
    """A picture named by a path inside `folder`, or given as a data URI. Raises InvalidRequest."""
    if name.startswith("data:"):
        return parse_data_uri(name, limits.max_image_bytes, param)
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidRequest(f"the image {name!r} lies outside {folder}; name it relative to there", param=param)
    if not path.is_file():
        raise InvalidRequest(_missing(path), param=param)
    if path.stat().st_size > limits.max_image_bytes:
        raise TooLarge(f"the image {name!r} has more than {limits.max_image_bytes:,} bytes", param=param)
    return path.read_bytes()


def _missing(path: Path) -> str:
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"there is no file {path}{_did_you_mean(path.name, names)}"


def _did_you_mean(name: str, known: tuple[str, ...] | list[str] = _FIELDS) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _check_header(path: Path, columns: Sequence[str]) -> None:
    if "id" not in columns:
        raise InvalidRequest(f"{path.name}:1: there is no column id; the columns are {', '.join(columns)}", param="id")
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


def _refuse_repeated_ids(documents: Iterator[Document | Refusal]) -> Iterator[Document | Refusal]:
    seen: set[str] = set()
    for item in documents:
        if isinstance(item, Document):
            if item.id in seen:
                item = Refusal(item.id, f"the id {item.id!r} was used before in this source", "id")
            else:
                seen.add(item.id)
        yield item
