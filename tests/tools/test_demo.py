"""`tools/demo.py`: inputs, names of outputs, broken images, exit statuses."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from image_makers import put_no_images
from PIL import Image

from detecture import TextureResult
from detecture.engine import result_files
from detecture.modeling.grouping.proposals import Alternative
from detecture.modeling.meta_arch.floors import HalfSplit

REPO = Path(__file__).parents[2]
HALVES = str(REPO / "configs/baselines/floor_half_split.yaml")


@pytest.fixture
def demo():
    spec = importlib.util.spec_from_file_location("demo", REPO / "tools/demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "sub/a.png", "a__2.png"):
        Image.fromarray(np.full((8, 12, 3), 90, np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def run(demo, images, output, *more):
    return demo.main(["--config-file", HALVES, "--input", *images, "--output", output, *more])


def test_folders_files_and_patterns(demo, images, tmp_path):
    out = str(tmp_path / "out")
    inputs = [str(images), str(images / "sub/*.png"), str(images / "a.png")]
    assert run(demo, inputs, out, "--count", "3") == 0
    stems = sorted(p.stem for p in Path(out).glob("*.json"))
    assert stems == ["a", "a__2", "a__3", "b"]
    saved = json.loads((tmp_path / "out/a.json").read_text())
    assert [r["area"] for r in saved["regions"]] == [32, 32, 32]
    assert len(list(Path(out).iterdir())) == 12 + 2  # the table and the note on it


def test_brackets_in_a_name_that_exists_are_no_pattern(demo, tmp_path):
    find_images = demo.find_images
    folder = tmp_path / "trip [1]"
    folder.mkdir()
    for name in ("photo[1].jpg", "photo1.jpg", "photo2.jpg"):
        Image.new("RGB", (4, 3)).save(folder / name)
    assert find_images([str(folder / "photo[1].jpg")]) == [folder / "photo[1].jpg"]
    assert len(find_images([str(folder / "*.jpg")])) == len(find_images([str(folder)])) == 3
    assert find_images([str(folder / "photo[12].jpg")]) == [
        folder / "photo1.jpg",
        folder / "photo2.jpg",
    ]
    (folder / "photo[1].jpg").rename(folder / "photo[3].jpg")
    assert find_images([str(folder / "photo[1].jpg")]) == [folder / "photo1.jpg"]


def test_a_broken_image_is_reported_and_the_others_go_on(demo, images, tmp_path, capfd):
    (images / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    assert run(demo, [str(images)], str(tmp_path / "out")) == 1
    assert "broken.jpg" in capfd.readouterr().err
    assert len(list((tmp_path / "out").glob("*.json"))) == 3


@pytest.mark.parametrize("pattern", ["", "*.png"])
def test_what_is_named_like_an_image_and_is_none_is_told_once(demo, tmp_path, pattern, capfd):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "in/a.png")
    said = put_no_images(tmp_path / "in")
    assert run(demo, [str(tmp_path / "in" / pattern)], str(tmp_path / "out")) == 1
    captured = capfd.readouterr()
    assert "1 of 6 images segmented" in captured.out
    for name, why in said.items():
        (text,) = [line for line in captured.err.splitlines() if f"/{name}: " in line]
        assert "not segmented: " in text and why in text


def test_a_name_with_a_new_line_is_one_line(demo, tmp_path, capfd):
    odd = tmp_path / "a\nb\x1b[31m.png"
    Image.new("RGB", (4, 3)).save(odd)
    (tmp_path / "c\nd.png").write_bytes(b"none")
    out = str(tmp_path / "o\nut")
    assert run(demo, [str(odd), str(tmp_path / "c\nd.png")], out, "--count", "1") == 1
    said = capfd.readouterr()
    assert f"{tmp_path}/a\\x0ab\\x1b[31m.png: 1 region\n" in said.out
    assert "segmented, in " in said.out and "o\\x0aut\n" in said.out
    assert f"not segmented: {tmp_path}/c\\x0ad.png: " in said.err


def test_more_regions_than_pixels(demo, images, tmp_path, capfd):
    assert run(demo, [str(images / "a.png")], str(tmp_path / "out"), "--count", "97") == 1
    assert "a.png: 97 regions are asked for (--count, " in capfd.readouterr().err
    assert not list((tmp_path / "out").glob("a*"))


@pytest.mark.parametrize(
    ("inputs", "more", "message"),
    [
        (["nowhere/*.png"], [], "nowhere/*.png: no such file"),
        (["IMAGES/b.jpeg"], [], "b.jpeg: no such file or folder; did you mean IMAGES/b.jpg?"),
        (["nope.png"], [], "--input nope.png: no such file or folder; correct the path"),
        (["EMPTY"], [], "no image in it"),
        (["IMAGES"], ["--count", "0"], "1 or more"),
        (["IMAGES"], ["--count", "100000"], "--count is the number of regions, 1 or more and 65,"),
        (["IMAGES"], ["--", "TEST.COUNT", "100000"], "TEST.COUNT '100000': use "),
        (["IMAGES"], ["--", "TEST.CONT", "3"], "did you mean TEST.COUNT?"),
    ],
)
def test_wrong_input(demo, images, tmp_path, inputs, more, message, capfd):
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "IMAGES": str(images)}
    (given,) = inputs
    for name, place in places.items():
        given = given.replace(name, place)
    message = message.replace("IMAGES", str(images))
    assert run(demo, [given], str(tmp_path / "out"), *more) == 2
    assert message in capfd.readouterr().err


def test_an_output_that_is_a_file(demo, images, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    assert run(demo, [str(images / "a.png")], str(tmp_path / "file/out")) == 2
    assert "cannot be written" in capfd.readouterr().err
    assert run(demo, [str(images / "a.png")], str(tmp_path / "file")) == 2
    assert "is a file" in capfd.readouterr().err


def written(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_again_in_the_folder_of_the_images(demo, images, capfd):
    """Its own overlays and label maps are no images, whoever lists the folder."""
    patterns = [str(images / "*.png"), str(images / "*.jpg"), str(images / "*.json")]
    for inputs in ([str(images)], patterns[:2], patterns):  # as a shell may do with *
        assert run(demo, inputs, str(images)) == 0
        assert "3 of 3 images segmented" in capfd.readouterr().out
    before = {path: path.read_bytes() for path in images.iterdir() if path.is_file()}
    assert run(demo, [str(images)], str(images)) == 0
    assert "6 images left out: they are results of this program" in capfd.readouterr().out
    assert {path: path.read_bytes() for path in images.iterdir() if path.is_file()} == before
    assert len(before) == 3 + 1 + 9 + 2
    only = [str(images / "a_overlay.jpg"), str(images / "a_labels.png")]
    assert run(demo, only, str(images)) == 2
    assert "all 2 images are results of this program" in capfd.readouterr().err


def test_files_of_others_are_kept(demo, images, capfd):
    """labelme's JSON beside its images, and a label map that somebody drew."""
    (images / "a.json").write_text('{"version": "5.4.1", "shapes": []}')
    Image.fromarray(np.full((8, 12), 3, np.uint8)).save(images / "b_labels.png")
    before = {name: (images / name).read_bytes() for name in ("a.json", "b_labels.png")}
    assert run(demo, [str(images)], str(images)) == 1
    printed = capfd.readouterr()
    for name in before:
        assert f"not segmented: {images / name}: is there already" in printed.err
        assert (images / name).read_bytes() == before[name]
    assert "2 of 4 images segmented" in printed.out  # b_labels.png is an image like any other
    assert not (images / "a_overlay.jpg").exists()
    assert run(demo, [str(images)], str(images), "--overwrite") == 0
    assert json.loads((images / "a.json").read_text())["num_regions"] == 2


def test_equal_names_are_told_apart_the_next_time_too(demo, images, tmp_path, capfd):
    out = tmp_path / "out"
    assert run(demo, [str(images / "sub"), str(images / "a.png")], str(out)) == 0
    assert f"{images / 'a.png'}: 2 regions, saved as a__2" in capfd.readouterr().out
    for inputs in ([images / "a.png"], [images / "sub"], [images / "a.png", images / "sub"]):
        assert run(demo, list(map(str, inputs)), str(out)) == 0
    assert [name for name in written(out) if name.endswith(".json")] == ["a.json", "a__2.json"]
    assert json.loads((out / "a.json").read_text())["name"] == str(images / "sub/a.png")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "cp1252:strict"])
def test_names_that_cannot_be_printed(images, tmp_path, encoding):
    for name in (b"b\xff.png", "bl\u00e4tter \U0001f33f.png".encode(), b"l" * 245 + b".png"):
        Image.fromarray(np.full((8, 12, 3), 90, np.uint8)).save(
            os.fsdecode(os.fsencode(images) + b"/" + name)
        )
    command = [sys.executable, str(REPO / "tools/demo.py"), "--config-file", HALVES]
    command += ["--input", str(images), "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert b"6 of 6 images segmented" in done.stdout and b"b\\udcff.png" in done.stdout
        assert len(written(tmp_path / "out")) == 18 + 2


def test_an_image_on_which_the_method_fails(demo, images, tmp_path, capfd, monkeypatch):
    original = HalfSplit.forward

    def forward(self, samples):
        if samples[0]["file_name"].endswith("a__2.png"):
            raise RuntimeError("no factor")
        return original(self, samples)

    monkeypatch.setattr(HalfSplit, "forward", forward)
    assert run(demo, [str(images)], str(tmp_path / "out")) == 1
    printed = capfd.readouterr()
    assert "a__2.png: the method failed on this image (RuntimeError: no factor)" in printed.err
    assert "2 of 3 images segmented" in printed.out and "Traceback" not in printed.err


def test_what_is_wrong_is_found_before_the_first_image(demo, images, tmp_path, capfd, monkeypatch):
    def never(*_):
        raise AssertionError("an image was segmented")

    monkeypatch.setattr(HalfSplit, "forward", never)
    (tmp_path / "file").write_text("")
    assert run(demo, [str(images)], str(tmp_path / "file/out")) == 2
    assert run(demo, [str(images)], str(tmp_path / ("n" * 300))) == 2
    assert run(demo, [str(images)], "/proc/x") == 2
    assert capfd.readouterr().err.count("cannot be written to") == 3
    assert run(demo, [str(images / ("n" * 300))], str(tmp_path / "out")) == 2
    assert "is no path of a file (File name too long)" in capfd.readouterr().err


def test_a_disk_that_is_full_for_one_image(demo, images, tmp_path, capfd, monkeypatch):
    original = result_files.write_atomic

    def full(path, write, **settings):
        if path.name.startswith("a__2"):
            raise OSError(28, "No space left on device")
        original(path, write, **settings)

    monkeypatch.setattr(result_files, "write_atomic", full)
    assert run(demo, [str(images)], str(tmp_path / "out")) == 1
    assert "a__2.json: cannot be written (No space left" in capfd.readouterr().err
    assert len(written(tmp_path / "out")) == 6 + 2


@pytest.mark.parametrize(
    "asked", ["holiday [1]/*.png", "holiday [1]/leaf[2].png", "holiday [[]1]/*"]
)
def test_a_folder_that_is_there_is_no_pattern(demo, tmp_path, monkeypatch, asked):
    """Names with the signs of patterns, as browsers and file managers give them."""
    image = tmp_path / "holiday [1]/leaf[2].png"
    image.parent.mkdir()
    Image.new("RGB", (8, 8)).save(image)
    assert demo.find_images([str(tmp_path / asked)]) == [image]
    monkeypatch.chdir(tmp_path)
    assert demo.find_images([asked]) == [image.relative_to(tmp_path)]


def table(folder):
    with (Path(folder) / "index.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_line_for_each_image_in_order(demo, images, tmp_path):
    (images / "a\u00e4,b.png").write_bytes((images / "a.png").read_bytes())
    (images / "c.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    assert run(demo, [str(images)], str(out)) == 1
    rows = table(out)
    names = sorted(path for path in images.iterdir() if path.suffix in (".png", ".jpg"))
    assert [row["image"] for row in rows] == [str(path) for path in names]
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["failed"]
    assert rows[0]["regions"] == "2" and rows[0]["json"] == "a.json"
    assert {rows[0][name] for name in ("count_probability", "least_confidence")} == {""}
    assert rows[4]["regions"] == rows[4]["json"] == ""
    assert run(demo, [str(images / "b.jpg")], str(out)) == 0
    assert [row["overlay"] for row in table(out)] == ["b_overlay.jpg"]


def test_a_table_of_somebody_else_is_kept(demo, images, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(HalfSplit, "forward", lambda *_: pytest.fail("an image was segmented"))
    mine = tmp_path / "out/index.csv"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert run(demo, [str(images)], str(mine.parent)) == 2
    assert "index.csv: is there already" in capfd.readouterr().err
    assert mine.read_text() == "mine"
    monkeypatch.undo()
    assert run(demo, [str(images)], str(mine.parent), "--overwrite") == 0
    assert len(table(mine.parent)) == 3


def test_a_run_that_is_interrupted_leaves_the_table_of_what_is_done(
    demo, images, tmp_path, monkeypatch
):
    original = HalfSplit.forward

    def forward(self, samples):
        if samples[0]["file_name"].endswith("b.jpg"):
            raise KeyboardInterrupt
        return original(self, samples)

    monkeypatch.setattr(HalfSplit, "forward", forward)
    assert run(demo, [str(images)], str(tmp_path / "out")) == 130
    assert len(table(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--granularity", "0.3"], "--granularity: HalfSplit has no choice of coarser and finer"),
        (["--granularity", "-1.5"], "--granularity is a number from -1 (coarsest)"),
        (["--granularity", "nan"], "--granularity is a number from -1 (coarsest)"),
        (["--granularity", "-0.3", "--count", "2"], "leave one of them out"),
        (["TEST.GRANULARITY", "0.3"], "TEST.GRANULARITY: HalfSplit has no choice"),
        (["TEST.GRANULARITY", "0.3", "TEST.COUNT", "2"], "set one of them"),
        (["TEST.GRANULARITY", "1.3"], "TEST.GRANULARITY is 1.3; it must be at most 1"),
    ],
)
def test_granularity_that_cannot_be_had(demo, images, tmp_path, words, message, capfd):
    assert run(demo, [str(images)], str(tmp_path / "out"), *words) == 2
    assert message in capfd.readouterr().err


def test_a_granularity_of_0_is_what_every_method_does(demo, images, tmp_path):
    assert run(demo, [str(images)], str(tmp_path / "out"), "--granularity", "0") == 0


def test_what_is_said_of_an_image_that_the_method_is_sure_of(demo):
    result = TextureResult(
        np.zeros((1, 4, 3), np.uint8),
        np.array([[1, 1, 1, 2]], np.int32),
        ["sand", ""],
        alternatives=(Alternative(3, 0.5), Alternative(2, 0.3), Alternative(1, 0.2)),
        confidence=(0.914, 0.35),
    )
    assert demo.report(result, "").splitlines() == [
        "2 regions (30%; or 3: 50%, 1: 20%)",
        "  1. sand (75 %), confidence 0.91",
        "  2. region 2 (25 %), confidence 0.35",
    ]
