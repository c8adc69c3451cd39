import base64
import json

import pytest

from mmrag.config import Limits
from mmrag.errors import InvalidRequest
from mmrag.knowledge.sources import read_documents
from mmrag.types import Document, Refusal


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
        ({"id": "b", "images": ["big.png"]}, "images", "more than 10 bytes"),
        ({"id": "b", "images": ["data:image/png;base64,%%%"]}, "images", "not valid base64"),
        (["b"], None, "must be an object"),
        (b'{"id": "b",', None, "no JSON object in UTF-8"),
        (b'{"id": "\xff"}', None, "no JSON object in UTF-8"),
        (b"[" * 100_000, None, "no JSON object in UTF-8"),
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
    [("titel,id", "column 'titel': did you mean 'title'"), ("title,text", "no column id"), ("", "no column id")],
)
def test_a_csv_header_is_checked(tmp_path, header, message):
    (tmp_path / "things.csv").write_text(f"{header}\na,b\n")
    with pytest.raises(InvalidRequest, match=rf"things\.csv:1: .*{message}"):
        list(read_documents(tmp_path / "things.csv"))


def test_a_folder_of_images(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    files = {
        "red_apple.png": b"1", "red_apple.jpg": b"2", "red_apple.txt": b"A fruit.", "sub/pear.GIF": b"3",
        "sub/pear.md": b"Green.", "notes.txt": b"no picture", ".hidden/x.png": b"4",
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert list(read_documents(tmp_path)) == [
        Document("red_apple", "red apple", "A fruit.", [b"2", b"1"]),
        Document("sub/pear", "pear", "Green.", [b"3"]),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [("thing.jsonl", r"did you mean 'things\.jsonl'"), ("notes.pdf", "no .jsonl file"), ("empty", "neither")],
)
def test_a_wrong_path_is_explained(tmp_path, name, message):
    _jsonl(tmp_path, {"id": "a"})
    (tmp_path / "notes.pdf").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match=message):
        list(read_documents(tmp_path / name))


def test_reading_streams(tmp_path):
    path = _jsonl(tmp_path, *({"id": str(i)} for i in range(100)), b"broken")
    documents = read_documents(path)
    assert next(documents).id == "0"
    documents.close()
