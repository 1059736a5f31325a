"""`TextureResult.save`: whose files it replaces, how it names its own, what it leaves behind."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detecture import TexturePredictor, TextureResult
from detecture.engine import result_files
from detecture.errors import OutputError
from detecture.modeling.meta_arch.floors import HalfSplit

NAMES = ["leaf.json", "leaf_labels.png", "leaf_overlay.jpg"]
LABELME = '{"version": "5.4.1", "shapes": [], "imagePath": "leaf.jpg"}'


def pixels(seed=0, height=12, width=16):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def write_image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path)
    return path


@pytest.fixture
def predictor():
    return TexturePredictor(HalfSplit())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def name_in(path):
    return json.loads(path.read_text("utf-8"))["name"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_others_wrote_is_never_replaced(predictor, tmp_path, name):
    """As where the output is the images' own folder; nothing of the result is written then."""
    result = predictor(write_image(tmp_path / "leaf.png"))
    foreign = tmp_path / name
    if name.endswith(".json"):
        foreign.write_text(LABELME)
    else:
        Image.fromarray(pixels(5)).save(foreign)
    before = foreign.read_bytes()
    with pytest.raises(OutputError, match=rf"{name}: is there already.*overwrite=True"):
        result.save(tmp_path)
    assert names(tmp_path) == sorted(["leaf.png", name])
    assert foreign.read_bytes() == before
    result.save(tmp_path, overwrite=True)
    assert foreign.read_bytes() != before
    result.save(tmp_path)
    assert names(tmp_path) == sorted([*NAMES, "leaf.png"])


def test_a_result_that_was_edited_is_not_replaced(predictor, tmp_path):
    result = predictor(write_image(tmp_path / "in/leaf.png"))
    paths = result.save(tmp_path / "out")
    text = paths["json"].read_text()
    paths["json"].write_text(text.replace('"description": ""', '"description": "moss"'))
    before = {path.name: path.read_bytes() for path in paths.values()}
    with pytest.raises(OutputError, match=r"leaf\.json.*changed it since"):
        result.save(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in paths.values()} == before


def test_the_same_image_replaces_its_own_files(predictor, tmp_path, monkeypatch):
    path = write_image(tmp_path / "in/leaf.png")
    predictor(path, count=2).save(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "in")
    paths = predictor("leaf.png", count=3).save(tmp_path / "out")
    assert names(tmp_path / "out") == NAMES
    saved = json.loads(paths["json"].read_text())
    assert (saved["num_regions"], saved["name"]) == (3, str(path))
    write_image(path, seed=1)  # edited
    predictor(Path("../in") / "leaf.png").save(tmp_path / "out")
    assert names(tmp_path / "out") == NAMES


def test_images_that_were_moved_with_their_results(predictor, tmp_path):
    predictor(write_image(tmp_path / "old/leaf.png")).save(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    predictor(tmp_path / "new/leaf.png").save(tmp_path / "new")
    assert names(tmp_path / "new") == sorted([*NAMES, "leaf.png"])


def test_equal_names_of_different_folders(predictor, tmp_path):
    images = [write_image(tmp_path / folder / "leaf.png") for folder in "abc"]
    out = tmp_path / "out"
    for _ in range(2):  # of equal pixels, too; and the second time each finds its own
        for image in images:
            predictor(image).save(out)
    expected = {"leaf.json": "a", "leaf__2.json": "b", "leaf__3.json": "c"}
    assert [n for n in names(out) if n.endswith(".json")] == sorted(expected)
    for name, folder in expected.items():
        assert name_in(out / name) == str(tmp_path / folder / "leaf.png")
    assert len(names(out)) == 9


def test_results_made_by_hand_go_by_their_names(tmp_path):
    image, labels = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.int32)
    one = TextureResult(image, labels, [""], name="a/leaf.jpg")
    for result in (one, replace(one, name="b/leaf.jpg"), one, replace(one, descriptions=["x"])):
        result.save(tmp_path)
    assert [n for n in names(tmp_path) if n.endswith(".json")] == ["leaf.json", "leaf__2.json"]


@pytest.mark.slow
def test_equal_names_in_two_processes(tmp_path):
    """One after the other and at once."""
    images = [str(write_image(tmp_path / folder / "leaf.png")) for folder in "abcd"]
    code = (
        "import sys\n"
        "from detecture import TexturePredictor\n"
        "from detecture.modeling.meta_arch.floors import HalfSplit\n"
        "TexturePredictor(HalfSplit())(sys.argv[1]).save(sys.argv[2])\n"
    )

    def save(image):
        command = [sys.executable, "-c", code, image, str(tmp_path / "out")]
        return subprocess.run(command, capture_output=True, text=True)

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(save, images):
            assert done.returncode == 0, done.stderr
    found = list((tmp_path / "out").glob("*.json"))
    assert sorted(map(name_in, found)) == images
    assert len(names(tmp_path / "out")) == 12


def test_a_name_that_another_process_takes_meanwhile(predictor, tmp_path, monkeypatch):
    mine, other = (predictor(write_image(tmp_path / f / "leaf.png")) for f in "ab")
    original = result_files.find_place

    def slow(*args, **settings):
        place = original(*args, **settings)
        monkeypatch.setattr(result_files, "find_place", original)
        other.save(tmp_path / "out")
        return place

    monkeypatch.setattr(result_files, "find_place", slow)
    paths = mine.save(tmp_path / "out")
    assert paths["json"].name == "leaf__2.json"
    assert name_in(tmp_path / "out/leaf.json") == str(tmp_path / "b/leaf.png")


def test_arrays_have_names_of_their_own(predictor, tmp_path):
    arrays = [pixels(0), Image.fromarray(pixels(1)), torch.from_numpy(pixels(2)).permute(2, 0, 1)]
    results = [*predictor(arrays), predictor(pixels(3))]
    predictor.set_image(pixels(4))
    results += [predictor.predict(2), predictor.predict(3)]
    assert [r.name for r in results] == [f"image_{i}" for i in (0, 1, 2, 3, 4, 4)]
    for result in results:
        result.save(tmp_path)
    assert len(names(tmp_path)) == 15
    # Another process counts from 0 again: the same arrays replace their own, others do not.
    again = TexturePredictor(HalfSplit())
    for result in again([pixels(0), pixels(7)]):
        result.save(tmp_path)
    found = [n for n in names(tmp_path) if n.endswith(".json")]
    assert found == ["image_0.json", *("image_1.json", "image_1__2.json"), "image_2.json",
                     "image_3.json", "image_4.json"]  # fmt: skip


def test_a_stem_of_ones_own_is_taken_as_it_is(predictor, tmp_path):
    for seed in range(2):
        paths = predictor(pixels(seed)).save(tmp_path, "latest")
        assert paths["json"].name == "latest.json"
    assert len(names(tmp_path)) == 3
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(OutputError, match=r"mine\.json"):
        predictor(pixels()).save(tmp_path, "mine")
    assert predictor(pixels()).save(tmp_path, "sub/mine")["json"] == tmp_path / "sub/mine.json"


@pytest.mark.parametrize("length", [236, 245, 251])
def test_names_that_are_nearly_too_long(predictor, tmp_path, length):
    endings = ["a", "b"]
    images = [write_image(tmp_path / f"in/{'l' * (length - 1)}{e}.png") for e in endings]
    for _ in range(2):
        for image in images:
            predictor(image).save(tmp_path / "out")
    assert len(names(tmp_path / "out")) == 6
    assert sorted(map(name_in, (tmp_path / "out").glob("*.json"))) == sorted(map(str, images))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text(predictor, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/b\xe4tter\xff.png")
    Image.fromarray(pixels()).save(path)
    for _ in range(2):
        paths = predictor(path).save(tmp_path / "out")
    assert len(names(tmp_path / "out")) == 3
    assert name_in(paths["json"]) == path
    paths["json"].read_bytes().decode("utf-8")


def test_a_name_that_no_file_can_have(predictor, tmp_path):
    result = replace(predictor(pixels()), name="\ud800")
    with pytest.raises(OutputError, match="cannot be written"):
        result.save(tmp_path / "out")
    result.save(tmp_path / "out", "other")


def test_no_part_of_a_result_is_left(predictor, tmp_path, monkeypatch):
    original = result_files.write_atomic

    def full(path, write, **settings):
        if path.suffix == ".png":
            raise OSError(28, "No space left on device")
        original(path, write, **settings)

    monkeypatch.setattr(result_files, "write_atomic", full)
    result = predictor(write_image(tmp_path / "in/leaf.png"))
    with pytest.raises(OutputError, match=r"leaf_labels\.png: cannot be written \(No space"):
        result.save(tmp_path / "out")
    assert names(tmp_path / "out") == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        result.save(tmp_path / "file")


def test_what_a_result_says_of_its_image(predictor, tmp_path):
    path = write_image(tmp_path / "leaf.png")
    values = predictor(path).to_dict()
    assert values["name"] == str(path)
    assert values["image_sha256"] == predictor(pixels()).to_dict()["image_sha256"]
    assert values["image_sha256"] != predictor(pixels(1)).to_dict()["image_sha256"]
    assert values["image_sha256"] != predictor(pixels(0, 16, 12)).to_dict()["image_sha256"]
