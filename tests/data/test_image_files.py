"""Which files of a folder are images that can be read."""

from pathlib import Path

from detecture.data.image_files import only_images


def test_images_come_and_what_is_not_read_is_told_once(tmp_path, caplog):
    names = ["b.PNG", "a.jpg", "c.gif", "d.jp2", "e.gif", "notes.txt", "none"]
    assert list(only_images(names, tmp_path)) == ["b.PNG", "a.jpg"]
    assert list(only_images(map(Path, names), tmp_path)) == [Path("b.PNG"), Path("a.jpg")]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: 3 files are images of a kind that is not read (2 .gif, 1 .jp2), such as "
        "c.gif; convert them to PNG or JPEG"
    ]


def test_nothing_is_said_of_other_files(tmp_path, caplog):
    assert list(only_images(["a.jpg", "b.txt", "c.json"], tmp_path)) == ["a.jpg"]
    assert not caplog.records
