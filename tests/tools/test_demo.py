"""`tools/demo.py`: inputs, names of outputs, broken images, exit statuses."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    assert len(list(Path(out).iterdir())) == 12


def test_a_broken_image_is_reported_and_the_others_go_on(demo, images, tmp_path, capfd):
    (images / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    assert run(demo, [str(images)], str(tmp_path / "out")) == 1
    assert "broken.jpg" in capfd.readouterr().err
    assert len(list((tmp_path / "out").glob("*.json"))) == 3


@pytest.mark.parametrize(
    ("inputs", "more", "message"),
    [
        (["nowhere/*.png"], [], "nowhere/*.png: no such file"),
        (["EMPTY"], [], "no image in it"),
        (["IMAGES"], ["--count", "0"], "1 or more"),
        (["IMAGES"], ["--", "TEST.CONT", "3"], "did you mean TEST.COUNT?"),
    ],
)
def test_wrong_input(demo, images, tmp_path, inputs, more, message, capfd):
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "IMAGES": str(images)}
    given = [places.get(text, text) for text in inputs]
    assert run(demo, given, str(tmp_path / "out"), *more) == 2
    assert message in capfd.readouterr().err


def test_an_output_that_is_a_file(demo, images, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    assert run(demo, [str(images / "a.png")], str(tmp_path / "file/out")) == 1
    assert "cannot be written" in capfd.readouterr().err
    assert run(demo, [str(images / "a.png")], str(tmp_path / "file")) == 2
    assert "is a file" in capfd.readouterr().err
