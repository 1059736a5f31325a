import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detecture.data.datasets.texture_json import load_texture_json
from detecture.data.synthetic import render_scene
from detecture.data.validate import check_dataset

REPO = Path(__file__).resolve().parents[2]
TOOL = REPO / "tools" / "make_dataset.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_dataset_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(tool, folder, *more, count=4, size=48):
    arguments = ["--output", str(folder), "--count", str(count), "--size", str(size)]
    return tool.main([*arguments, "--workers", "1", *more])


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_files_are_the_images(tool, tmp_path, capsys):
    folder = tmp_path / "made"
    assert make(tool, folder, "--seed", "9") == 0
    assert capsys.readouterr().out.strip() == str(folder / "metadata.json")
    records = load_texture_json(folder / "metadata.json", folder)
    assert [record["image_id"] for record in records] == [f"{i:07d}" for i in range(4)]
    for index, record in enumerate(records):
        scene = render_scene(9, index, 48, edition=2)
        assert np.array_equal(np.asarray(Image.open(record["file_name"])), scene.image)
        assert [t["description"] for t in record["textures"]] == scene.descriptions
        for texture, mask in zip(record["textures"], scene.masks, strict=True):
            assert np.array_equal(np.asarray(Image.open(texture["mask_file"])), mask * 255)
    names = {path.name for path in folder.iterdir()}
    assert names == {"images", "textures_mask", "metadata.json", "settings.json"}
    report = check_dataset(
        "made", str(folder / "metadata.json"), str(folder), max_pixels=10**6, workers=1
    )
    assert report.ok and not report.count("warning") and report.images == 4


def test_again_changes_nothing(tool, tmp_path):
    assert make(tool, tmp_path / "made") == 0
    before = content(tmp_path / "made")
    assert make(tool, tmp_path / "made") == 0
    assert content(tmp_path / "made") == before


def test_killed_and_continued(tool, tmp_path):
    """Killed in the middle, with a half-written file left over: the same folder in the end."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert make(tool, whole, count=40) == 0
    command = [sys.executable, str(TOOL), "--output", str(broken), "--count", "40"]
    process = subprocess.Popen(
        [*command, "--size", "48", "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    done = broken / ".records"
    try:
        for _ in range(3000):
            if done.is_dir() and len(list(done.glob("*.json"))) >= 3:
                break
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (broken / "metadata.json").exists()
    (broken / "images" / "0000039.png.tmp-1").write_bytes(b"half")
    assert make(tool, broken, count=40) == 0
    assert content(broken) == content(whole)


def test_killed_before_the_end(tool, tmp_path):
    """metadata.json was there, the records of the run not yet removed."""
    assert make(tool, tmp_path / "made") == 0
    before = content(tmp_path / "made")
    (tmp_path / "made" / ".records").mkdir()
    (tmp_path / "made" / "metadata.json.tmp-7").write_bytes(b"half")
    assert make(tool, tmp_path / "made") == 0
    assert content(tmp_path / "made") == before and not (tmp_path / "made" / ".records").exists()


@pytest.mark.parametrize(
    "more", [["--seed", "5"], ["--size", "64"], ["--format", "jpg"], ["--count", "5"]]
)
def test_other_settings_are_refused(tool, tmp_path, more, capsys):
    assert make(tool, tmp_path / "made") == 0
    before = content(tmp_path / "made")
    assert make(tool, tmp_path / "made", *more) == 2
    error = capsys.readouterr().err
    assert "was made with other settings" in error and "there" in error and "now" in error
    assert content(tmp_path / "made") == before


def test_another_generator_is_refused(tool, tmp_path, capsys):
    assert make(tool, tmp_path / "made") == 0
    path = tmp_path / "made" / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "generator": "older"}))
    assert make(tool, tmp_path / "made") == 2
    assert "generator 'older' there" in capsys.readouterr().err


def test_foreign_folders_are_refused(tool, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(b"")
    assert make(tool, tmp_path / "mine") == 2
    assert "is no data set of this tool" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert make(tool, tmp_path / "file") == 2
    capsys.readouterr()
    (tmp_path / "mine" / "settings.json").write_text("{")
    assert make(tool, tmp_path / "mine") == 2
    assert "cannot be read as JSON" in capsys.readouterr().err


def test_jpg(tool, tmp_path):
    assert make(tool, tmp_path / "made", "--format", "jpg", count=1, size=64) == 0
    image = np.asarray(Image.open(tmp_path / "made/images/0000000.jpg"))
    assert np.abs(image.astype(int) - render_scene(1000, 0, 64, edition=2).image).mean() < 8


def test_split(tool, tmp_path):
    arguments = ["--output", str(tmp_path / "made"), "--split", "synthetic_test", "--count", "2"]
    assert tool.main([*arguments, "--size", "48", "--workers", "1"]) == 0
    settings = json.loads((tmp_path / "made/settings.json").read_text())
    assert settings["seed"] == 3 and settings["count"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--count", "0"], "count 0: must be at least 1"),
        (["--count", "1", "--seed", "-1"], "seed -1: must be 0 or more"),
        (["--count", "1", "--size", "8"], "size 8: procedural images have 32"),
    ],
)
def test_values_out_of_range(tool, tmp_path, arguments, says, capsys):
    assert tool.main(["--output", str(tmp_path / "made"), "--workers", "1", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--output", "x"],
        ["--output", "x", "--contact-sheet", "y"],
        ["--output", "x", "--split", "synthetic_test", "--seed", "1"],
        ["--output", "x", "--split", "other"],
        ["--output", "x", "--split", "synthetic_val", "--edition", "1"],
    ],
)
def test_contradictory_arguments(tool, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        tool.main(arguments)
    assert caught.value.code == 2
    capsys.readouterr()


def test_an_impossible_folder_is_wrong_input(tool, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for place in (Path("/proc/x"), tmp_path / "file/out"):
        assert make(tool, place) == 2
        assert "cannot be written to" in capsys.readouterr().err


def test_failing_disk(tool, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("detecture.data.formats.published_layout.write_atomic", full)
    assert make(tool, tmp_path / "made") == 1
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["family", "layout", "scene"])
def test_contact_sheet(tool, tmp_path, by):
    path = tmp_path / "sheet.png"
    assert tool.main(["--contact-sheet", str(path), "--by", by]) == 0
    with Image.open(path) as sheet:
        assert sheet.width > 1000 and sheet.height > 500


def test_contact_sheet_of_an_unknown_format(tool, tmp_path, capsys):
    assert tool.main(["--contact-sheet", str(tmp_path / "sheet.xyz")]) == 2
    assert "xyz" in capsys.readouterr().err


def test_two_runs_in_one_folder_are_refused(tmp_path):
    from filelock import FileLock

    from detecture.data.synthetic.export import ExportSettings, export_dataset
    from detecture.errors import DatasetError

    folder = tmp_path / "set"
    settings = ExportSettings(seed=0, count=1, size=64)
    export_dataset(folder, settings)
    (folder / "metadata.json").unlink()
    (folder / ".records").mkdir()
    with (
        FileLock(folder / ".records/.lock"),
        pytest.raises(DatasetError, match="another run is writing"),
    ):
        export_dataset(folder, settings)
    export_dataset(folder, settings)
    assert (folder / "metadata.json").is_file()


def test_a_finished_folder_that_was_damaged_is_not_called_fine(tmp_path):
    from detecture.data.synthetic.export import ExportSettings, export_dataset
    from detecture.errors import DatasetError

    folder = tmp_path / "set"
    settings = ExportSettings(seed=0, count=2, size=64)
    export_dataset(folder, settings)
    victim = next((folder / "images").iterdir())
    before = victim.read_bytes()
    victim.write_bytes(b"")
    with pytest.raises(DatasetError, match=f"1 files .*{victim.name}.*run this again"):
        export_dataset(folder, settings)
    (folder / "metadata.json").unlink()
    export_dataset(folder, settings)
    assert victim.read_bytes() == before


def test_settings_that_are_none_and_a_kill_at_the_very_start(tmp_path):
    from detecture.data.synthetic.export import ExportSettings, export_dataset
    from detecture.errors import DatasetError

    settings = ExportSettings(seed=0, count=1, size=64)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/settings.json").write_text("[]")
    with pytest.raises(DatasetError, match="holds no settings"):
        export_dataset(tmp_path / "a", settings)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/settings.json.tmp-123").write_text("{")
    assert export_dataset(tmp_path / "b", settings).is_file()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_sheet_replaces_no_file_of_others(tool, tmp_path, monkeypatch, capsys, ending):
    monkeypatch.setattr(tool, "contact_sheet", lambda *_, **__: Image.new("RGB", (40, 30)))
    path = tmp_path / f"sheet.{ending}"
    path.write_text("mine")
    words = ["--contact-sheet", str(path)]
    assert tool.main(words) == 2
    assert "give --overwrite" in capsys.readouterr().err and path.read_text() == "mine"
    for more in (["--overwrite"], [], []):
        assert tool.main([*words, *more]) == 0
    with Image.open(path) as sheet:
        assert sheet.size == (40, 30)
