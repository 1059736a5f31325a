"""The shipped samples: sound, small, and what their script makes."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from detecture.data import load_ground_truth, load_registered, read_image
from detecture.data.synthetic import render_scene
from detecture.data.validate import check_dataset

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
SAMPLES = DATASETS / "samples"
LIMIT = 10**6


def test_they_pass_the_check():
    report = check_dataset(
        "samples", str(SAMPLES / "metadata.json"), str(SAMPLES), max_pixels=LIMIT
    )
    assert report.ok and report.count("warning") == 0
    assert report.images == 6 and report.descriptions == report.textures
    assert report.k_histogram == {2: 3, 3: 2, 4: 1}


def test_every_pixel_has_one_texture_and_no_texture_is_tiny():
    for record in load_registered("samples"):
        masks = load_ground_truth(record, LIMIT).masks
        assert (masks.sum(axis=0) == 1).all(), record["image_id"]
        assert masks.mean(axis=(1, 2)).min() > 0.1, record["image_id"]


def test_paths_are_relative_and_files_small():
    text = (SAMPLES / "metadata.json").read_text()
    assert str(SAMPLES) not in text and '"/' not in text
    files = [path for path in SAMPLES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000


def test_every_image_has_a_licence():
    licences = (SAMPLES / "LICENSES.md").read_text()
    images = [*SAMPLES.glob("images/*"), *SAMPLES.glob("photos/*")]
    assert len(images) == 10
    for path in images:
        assert str(path.relative_to(SAMPLES)) in licences
    assert "CC BY 2.0" in licences and "danielbuechele" in licences


def test_photos_are_readable_and_not_in_the_metadata():
    metadata = (SAMPLES / "metadata.json").read_text()
    for path in SAMPLES.glob("photos/*"):
        assert max(read_image(path, LIMIT).shape) <= 448 and path.name not in metadata


def test_the_script_makes_them(tmp_path, capsys):
    pytest.importorskip("skimage")
    spec = importlib.util.spec_from_file_location(
        "prepare_samples", DATASETS / "prepare_samples.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--output", str(tmp_path)]) == 0
    names = {p.relative_to(SAMPLES) for p in SAMPLES.rglob("*") if p.is_file()}
    # tools/make_dataset.py makes the procedural ones, and its own tests look after them.
    names = {name for name in names if name.parts[0] != "procedural"}
    assert {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()} == names
    for name in sorted(names):
        if name.suffix in (".json", ".md"):
            assert (tmp_path / name).read_text() == (SAMPLES / name).read_text()
            continue
        made, shipped = (
            read_image(folder / name, LIMIT).astype(int) for folder in (tmp_path, SAMPLES)
        )
        # Another version of libjpeg may round differently; a mask may not differ at all.
        tolerance = 0 if name.suffix == ".png" else 2
        assert np.abs(made - shipped).mean() <= tolerance, name
    assert json.loads((tmp_path / "metadata.json").read_text())


def test_procedural_samples_are_images_of_the_frozen_test_set():
    folder = SAMPLES / "procedural"
    report = check_dataset(
        "procedural", str(folder / "metadata.json"), str(folder), max_pixels=LIMIT
    )
    assert report.ok and report.images == 4
    entries = json.loads((folder / "metadata.json").read_text())
    for index, entry in enumerate(entries):
        scene = render_scene(3, index)
        assert [t["description"] for t in entry["textures"]] == scene.descriptions
        shipped = read_image(folder / entry["image_path"], LIMIT).astype(int)
        assert np.abs(shipped - scene.image).mean() < 8  # stored as JPEG


def test_the_script_replaces_no_other_file(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("prepare", DATASETS / "prepare_samples.py")
    prepare = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = prepare  # dataclasses look their module up
    spec.loader.exec_module(prepare)
    (tmp_path / "metadata.json").write_text("mine")
    words = ["--output", str(tmp_path)]
    assert prepare.main(words) == 2
    assert "metadata.json is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["metadata.json"]
    assert [prepare.main([*words, *more]) for more in (["--overwrite"], [])] == [0, 0]
    assert (tmp_path / "images/grass_gravel.jpg").is_file()
