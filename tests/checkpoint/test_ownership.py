"""Files of this program are replaced, those of others and changed ones never."""

import io
import json
import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from detecture.checkpoint import atomic, ownership
from detecture.checkpoint.ownership import (
    HTML_COMMENT,
    LATEX_COMMENT,
    carries_mark,
    is_own,
    json_bytes,
    require_folder,
    require_own,
    write_own,
)
from detecture.errors import OutputError
from detecture.visualize import label_map_image

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
VALUES = {"name": "a.jpg", "height": 3, "text": 'Bl\u00e4tter, "quoted", \\ and \n'}


def encoded(image, file_format):
    file = io.BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def contents():
    photo, labels = Image.fromarray(PIXELS), PIXELS[..., 0] % 3
    return {
        "photo.png": (encoded(photo, "PNG"), ""),
        "labels.png": (encoded(label_map_image(labels), "PNG"), ""),
        "many.png": (encoded(label_map_image(labels.astype(int) * 200), "PNG"), ""),
        "photo.jpg": (encoded(photo, "JPEG"), ""),
        "grey.jpg": (encoded(photo.convert("L"), "JPEG"), ""),
        "sheet.webp": (encoded(photo, "WEBP"), ""),
        "report.json": (json_bytes(VALUES), ""),
        "report.md": (b"# Report\n\ntext\n", HTML_COMMENT),
        "page.html": (b"<!DOCTYPE html>\n<p>text</p>", HTML_COMMENT),
        "table.tex": (b"\\begin{tabular}\n", LATEX_COMMENT),
        "table.csv": (b"model,mIoU\na,0.5\n", ""),
    }


@pytest.fixture(params=list(contents()))
def case(request, tmp_path):
    """A file's path, its content and comment; and a second content of the same kind."""
    content, comment = contents()[request.param]
    return tmp_path / request.param, content, comment


def write(path, content, comment, **settings):
    write_own(path, content, remedy="say another", comment=comment, **settings)


def test_own_files_are_replaced(case):
    path, content, comment = case
    write(path, content, comment)
    assert is_own(path)
    first = path.read_bytes()
    write(path, content, comment)
    assert path.read_bytes() == first
    write(path, content.replace(b"e", b"e"), comment)
    assert is_own(path)


def test_files_of_others_are_not(case):
    path, content, comment = case
    path.write_bytes(content)  # the same, but who wrote it?
    with pytest.raises(OutputError, match=r"is there already, and this program .*say another"):
        write(path, b"new", "")
    assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    write(path, content, comment, overwrite=True)
    assert is_own(path)
    write(path, content, comment)


def test_changed_files_are_those_of_who_changed_them(case):
    path, content, comment = case
    write(path, content, comment)
    changed = bytearray(path.read_bytes())
    changed[-1 if path.suffix == ".json" else len(changed) // 2] ^= 1
    path.write_bytes(changed)
    assert not is_own(path)
    with pytest.raises(OutputError):
        write(path, content, comment)
    assert path.read_bytes() == changed


def test_what_is_written_is_read_as_before(tmp_path):
    for name, (content, comment) in contents().items():
        write(tmp_path / name, content, comment)
        if name.endswith((".png", ".jpg", ".webp")):
            with Image.open(tmp_path / name) as image, Image.open(io.BytesIO(content)) as other:
                image.load()
                assert (image.mode, image.size) == (other.mode, other.size)
                np.testing.assert_array_equal(np.asarray(image), np.asarray(other))
    assert Image.open(tmp_path / "photo.png").text["Software"].startswith("detecture ")
    assert Image.open(tmp_path / "photo.jpg").info["comment"].startswith(b"written by detecture ")
    read = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert read.pop("written_by").startswith("detecture ")
    assert read == VALUES
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>\n")
    assert (tmp_path / "table.csv").read_bytes() == contents()["table.csv"][0]


def test_other_programs_keep_a_mark_but_not_its_digest(tmp_path):
    """As image editors do that copy comments: what they wrote is theirs."""
    write(tmp_path / "a.png", contents()["photo.png"][0], "")
    with Image.open(tmp_path / "a.png") as image:
        text = PngImagePlugin.PngInfo()
        text.add_text("Software", image.text["Software"])
        Image.fromarray(255 - np.asarray(image)).save(tmp_path / "a.png", pnginfo=text)
    assert carries_mark(tmp_path / "a.png") and not is_own(tmp_path / "a.png")


def test_where_an_image_lies_is_no_change_of_its_result(tmp_path):
    path = tmp_path / "a.json"
    write(path, json_bytes(VALUES), "")
    text = path.read_text("utf-8")
    path.write_text(text.replace("a.jpg", "elsewhere/a.jpg"), "utf-8")
    assert is_own(path)
    path.write_text(text.replace('"height": 3', '"height": 4'), "utf-8")
    assert not is_own(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{\n",
        b'{\n "written_by": "detecture 1.0"\n}\n',
        b'{\n "written_by": "detecture 1.0 ' + b"0" * 64 + b'",\n "a": 1\n}\n',
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8",
        b"<!-- written by detecture -->\n",
        b"\n\n",
    ],
)
def test_foreign_files_of_all_kinds(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    assert not is_own(path)


def test_what_is_no_file(tmp_path):
    for name in ("folder", "gone"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        assert not is_own(tmp_path / name) and not carries_mark(tmp_path / name)
    with pytest.raises(OutputError, match="is a folder"):
        require_own([tmp_path / "folder"], True, "say another")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="link"):
        require_own([tmp_path / "link"], False, "say another")
    os.mkfifo(tmp_path / "pipe")
    assert not carries_mark(tmp_path / "pipe") and not is_own(tmp_path / "pipe")
    require_own([tmp_path / "gone"], False, "say another")


def test_what_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file/a.json", tmp_path / ("n" * 300), tmp_path / "\ud800"):
        with pytest.raises(OutputError, match="cannot be written"):
            write(path, b"{\n}", "")
    with pytest.raises(OutputError, match="cannot be written to"):
        require_folder(tmp_path / "file/folder", "say another")
    require_folder(tmp_path / "new/folder", "say another")
    assert not list((tmp_path / "new/folder").iterdir())


def test_notes_may_lie_elsewhere(tmp_path):
    notes, path = tmp_path / "notes", tmp_path / "out/a.csv"
    for content in (b"a\n", b"b\n"):
        write(path, content, "", notes=notes)
    assert [p.name for p in path.parent.iterdir()] == ["a.csv"]
    path.write_bytes(b"edited\n")
    with pytest.raises(OutputError):
        write(path, b"c\n", "", notes=notes)
    # A folder in which no note can be made: it is written, and asks for leave the next time.
    (tmp_path / "file").touch()
    write(tmp_path / "b.csv", b"a\n", "", notes=tmp_path / "file")
    with pytest.raises(OutputError):
        write(tmp_path / "b.csv", b"a\n", "", notes=tmp_path / "file")


def test_a_kill_between_a_note_and_its_file(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write(path, b"a\n", "")
    original = ownership.write_atomic

    def killed(target, write_content, **settings):
        if target == path:
            raise KeyboardInterrupt
        original(target, write_content, **settings)

    monkeypatch.setattr(ownership, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        write(path, b"b\n", "")
    monkeypatch.undo()
    assert path.read_bytes() == b"a\n" and is_own(path)
    write(path, b"b\n", "")


def test_new_files_replace_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a"
    atomic.write_atomic(path, lambda file: file.write(b"one"), new=True)
    with pytest.raises(FileExistsError):
        atomic.write_atomic(path, lambda file: file.write(b"two"), new=True)

    def no_links(*_):
        raise OSError("this disk has no hard links")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(FileExistsError):
        atomic.write_atomic(path, lambda file: file.write(b"two"), new=True)
    atomic.write_atomic(tmp_path / "b", lambda file: file.write(b"three"), new=True)
    assert path.read_bytes() == b"one" and (tmp_path / "b").read_bytes() == b"three"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_long_and_odd_names(tmp_path):
    long = "\u00e4" * 124 + ".json"  # 253 bytes
    atomic.write_text_atomic(tmp_path / long, "\udcff")
    assert (tmp_path / long).read_bytes() == b"\\udcff"
    short = atomic.short_name("\u00e4" * 200)
    assert len(short.encode("utf-8")) < 130 and short.startswith("\u00e4" * 50 + "-")
    assert short != atomic.short_name("\u00e4" * 201)
    assert atomic.short_name("a\udcff") == "a\udcff"
    assert (
        json.loads(atomic.utf8(json.dumps("a\udcff\u00e4", ensure_ascii=False))) == "a\udcff\u00e4"
    )
