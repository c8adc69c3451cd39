import base64
import json
from pathlib import Path

import pytest

from mmrag.config import Limits
from mmrag.errors import InvalidRequest
from mmrag.knowledge.sources import count_documents, read_documents
from mmrag.types import Document, Refusal

UNREADABLE = Path("/proc/self/mem")


def _jsonl(folder, *rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path = folder / "things.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


def test_jsonl_with_images_by_path_and_as_data_uri(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"picture")
    uri = "data:image/png;base64," + base64.b64encode(b"inline").decode()
    path = _jsonl(
        tmp_path,
        {"id": "a", "title": "T", "text": "x", "images": ["images/a.png", uri], "labels": ["l"], "metadata": {"n": 1}},
        b"",
        {"id": 7, "image": "images/a.png", "title": None},
    )
    assert list(read_documents(path)) == [
        Document("a", "T", "x", [b"picture", b"inline"], ["l"], {"n": 1}),
        Document("7", images=[b"picture"]),
    ]
    path.rename(tmp_path / "knowledge.jsonl")
    assert [document.id for document in read_documents(tmp_path)] == ["a", "7"]


@pytest.mark.parametrize(
    ("row", "param", "reason"),
    [
        ({"id": "b", "titel": "x"}, "titel", "unknown field 'titel' (did you mean 'title'?)"),
        ({"title": "x"}, "id", "the field id is missing"),
        ({"id": "b", "text": ["x"]}, "text", 'text must be a string, not ["x"]'),
        ({"id": "b", "labels": "x"}, "labels", "labels must be a list of strings"),
        ({"id": "b", "metadata": ["x"]}, "metadata", "metadata must be an object"),
        ({"id": "b", "images": ["pictur.png"]}, "images", "pictur.png (did you mean 'picture.png'?)"),
        ({"id": "b", "images": ["../secret.png"]}, "images", "lies outside"),
        ({"id": "b", "images": ["/etc/passwd"]}, "images", "lies outside"),
        ({"id": "b", "images": ["link.png"]}, "images", "lies outside"),
        ({"id": "b", "images": ["a\0.png"]}, "images", "cannot be read: embedded null byte"),
        ({"id": "b", "images": ["x" * 999]}, "images", "cannot be read: File name too long"),
        ({"id": "b", "images": ["big.png"]}, "images", "more than 10 bytes"),
        ({"id": "b", "images": ["data:image/png;base64,%%%"]}, "images", "not valid base64"),
        (["b"], None, "must be an object"),
        (b'{"id": "b",', None, "no JSON object in UTF-8"),
        (b'{"id": "\xff"}', None, "no JSON object in UTF-8"),
        (b"[" * 100_000, None, "no JSON object in UTF-8"),
        (b'{"id": "b", "metadata": {"n": ' + b"1" * 5_000 + b"}}", None, "no JSON object in UTF-8"),
        ({"id": True}, "id", "id must be a string"),
        ({"id": "good"}, "id", "used before"),
    ],
)
def test_a_bad_line_is_refused_by_name_and_the_others_are_read(tmp_path, row, param, reason):
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "picture.png").write_bytes(b"picture")
    (folder / "big.png").write_bytes(b"x" * 11)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    path = _jsonl(folder, {"id": "good"}, row, {"id": "better"})
    first, refused, last = read_documents(path, Limits(max_image_bytes=10))
    assert (first.id, last.id) == ("good", "better")
    assert isinstance(refused, Refusal)
    assert reason in refused.reason and refused.param == param
    assert "used before" in reason or refused.reason.startswith("things.jsonl:2: ")


def test_csv_with_columns_of_its_own(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.png").write_bytes(b"b")
    (tmp_path / "things.csv").write_text(
        "\ufeffid,title,text,images,labels,population,code,metadata.label,is_new\n"
        'a,Apple,"red, round\nfruit",a.png; b.png,fruit;red,12,007,x,true\n'
        "b,Bread,,,,1.5,,,\n"
    )
    assert list(read_documents(tmp_path / "things.csv")) == [
        Document(
            "a", "Apple", "red, round\nfruit", [b"a", b"b"], ["fruit", "red"],
            {"population": 12, "code": "007", "label": "x", "is_new": True},
        ),
        Document("b", "Bread", metadata={"population": 1.5}),
    ]  # fmt: skip


def test_a_csv_row_of_the_wrong_length_is_refused(tmp_path):
    (tmp_path / "things.csv").write_text("id,title\na,b,c\nd\ne,f\n,g\n")
    long, short, good, empty = read_documents(tmp_path / "things.csv")
    assert long.reason.startswith("things.csv:2: this row has more or fewer cells")
    assert short.reason.startswith("things.csv:3: ")
    assert good == Document("e", "f")
    assert empty.id == ""


def test_a_csv_row_in_another_encoding_is_refused_and_says_how_to_save_it(tmp_path):
    (tmp_path / "things.csv").write_bytes("id,title\na,Café\nb,Bread\n".encode("latin-1"))
    refused, good = read_documents(tmp_path / "things.csv")
    assert refused.reason.startswith("things.csv:2: this line is not in UTF-8")
    assert good == Document("b", "Bread")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("titel,id", "column 'titel': did you mean 'title'"),
        ("title,text", "no column id"),
        ("", "no column id"),
        ('"id"x,title', "the header is not CSV"),
    ],
)
def test_a_csv_header_is_checked(tmp_path, header, message):
    (tmp_path / "things.csv").write_text(f"{header}\na,b\n")
    with pytest.raises(InvalidRequest, match=rf"things\.csv:1: .*{message}"):
        list(read_documents(tmp_path / "things.csv"))


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_csv_as_spreadsheets_of_other_languages_write_it(tmp_path, mark):
    (tmp_path / "a.png").write_bytes(b"a")
    rows = [["id", '"title"', "images", "size"], ["a", "Apple", '"a.png; a.png"', "3"]]
    (tmp_path / "things.csv").write_text("\ufeff" + "\n".join(mark.join(row) for row in rows))
    assert list(read_documents(tmp_path / "things.csv")) == [Document("a", "Apple", "", [b"a", b"a"], [], {"size": 3})]
    assert count_documents(tmp_path / "things.csv") == 1


def write_files(folder, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def test_a_folder_of_pictures_and_texts(tmp_path):
    files = {
        "red_apple.png": b"1", "red_apple.jpg": b"2", "red_apple.txt": b"A fruit.", "sub/pear.GIF": b"3",
        "sub/pear.md": b"Green.", "notes.txt": b"no picture", ".hidden/x.png": b"4", "sub/thesis.pdf": b"5",
    }  # fmt: skip
    write_files(tmp_path, files)
    *documents, refused = read_documents(tmp_path)
    assert documents == [
        Document("notes", "notes", "no picture"),
        Document("red_apple", "red apple", "A fruit.", [b"2", b"1"]),
        Document("sub/pear", "pear", "Green.", [b"3"]),
    ]
    assert count_documents(tmp_path) == 4
    assert refused.reason.startswith("left out: sub/thesis.pdf. What is read: .jsonl")
    assert list(read_documents(tmp_path / "notes.txt")) == documents[:1]
    [refused] = read_documents(tmp_path / "red_apple.txt", Limits(max_document_chars=1))
    assert "more than 1 characters" in refused.reason


def test_a_folder_with_tables_is_what_they_say_and_tells_what_they_do_not_name(tmp_path):
    files = {
        "docs.jsonl": b'{"id": "a", "image": "a.png"}\n\n{"id": "b"}', "more/docs.csv": b"id,image\nc,c.png\n",
        "a.png": b"1", "more/c.png": b"2", "more/d.png": b"3", "e.png": b"4", "f.txt": b"5", "g.txt": b"6",
    }  # fmt: skip
    write_files(tmp_path, files)
    *documents, refused = read_documents(tmp_path)
    assert documents == [Document("a", images=[b"1"]), Document("b"), Document("c", images=[b"2"])]
    assert count_documents(tmp_path) == 3
    assert refused.reason.startswith("left out: e.png, f.txt, g.txt and 1 more.")
    (tmp_path / "docs.jsonl").rename(tmp_path / "knowledge.jsonl")
    assert [document.id for document in read_documents(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thing.jsonl", r"did you mean 'things\.jsonl'"),
        ("notes.pdf", "none of .jsonl"),
        ("things.json", "one JSON object a line"),
        ("empty", "nothing in .*empty that is read: .jsonl"),
    ],
)
def test_a_wrong_path_is_explained(tmp_path, name, message):
    _jsonl(tmp_path, {"id": "a"})
    for unread in ("notes.pdf", "things.json"):
        (tmp_path / unread).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match=message):
        list(read_documents(tmp_path / name))


@pytest.mark.skipif(not UNREADABLE.is_file(), reason="a file that cannot be read even by root is a matter of Linux")
@pytest.mark.parametrize("name", ["things.jsonl", "things.csv"])
def test_a_table_that_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / name).symlink_to(UNREADABLE)
    assert count_documents(tmp_path / name) == 0
    with pytest.raises(InvalidRequest, match=rf"{name} cannot be read: Input/output error"):
        list(read_documents(tmp_path / name))


@pytest.mark.skipif(not UNREADABLE.is_file(), reason="a file that cannot be read even by root is a matter of Linux")
def test_a_text_that_cannot_be_read_is_refused_and_the_others_are_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"Apples are red.")
    (tmp_path / "b.txt").symlink_to(UNREADABLE)
    read, refused = read_documents(tmp_path)
    assert read.text == "Apples are red."
    assert refused.document_id == "b" and "cannot be read" in refused.reason


def test_reading_streams(tmp_path):
    path = _jsonl(tmp_path, *({"id": str(i)} for i in range(100)), b"broken")
    documents = read_documents(path)
    assert next(documents).id == "0"
    documents.close()
