import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from segmentations_toy import strips, write_toy_set
from semantic_toy import write_semantic_folder

from detecture.d2 import DatasetCatalog, MetadataCatalog

REPO = Path(__file__).resolve().parents[2]
TOOL = REPO / "tools" / "check_dataset.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("check_dataset_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def own(tmp_path):
    root = tmp_path / "own"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    Image.new("RGB", (8, 6)).save(root / "images/a.png")
    Image.new("L", (8, 6), 255).save(root / "masks/a.png")
    entry = {
        "image_path": "images/a.png",
        "textures": [{"description": "grey", "mask_path": "masks/a.png"}],
    }
    (root / "metadata.json").write_text(json.dumps([entry]))
    return root / "metadata.json"


def test_sound_set(tool, own, capsys):
    assert tool.main(["--dataset-json", str(own)]) == 0
    out = capsys.readouterr().out
    assert "1 image, 1 texture, 1 description\n" in out and "ok, 0 warnings" in out


def test_defects_are_named_and_counted(tool, own, capsys):
    (own.parent / "images/a.png").write_bytes(b"no image")
    assert tool.main(["--dataset-json", str(own), "--workers", "2"]) == 1
    out = capsys.readouterr().out
    assert f"error unreadable_image: record 0 (id a): {own.parent}/images/a.png: is no ima" in out
    assert "1 error, " in out


def test_json_output_is_all_of_stdout(tool, own, capsys):
    (own.parent / "masks/a.png").unlink()
    assert tool.main(["--dataset-json", str(own), "--json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    kinds = [finding["kind"] for finding in report["findings"]]
    assert kinds == ["missing_mask", "k_range"] and report["ok"] is False


def test_root_may_lie_elsewhere(tool, own, tmp_path, capsys):
    moved = tmp_path / "list.json"
    own.rename(moved)
    assert tool.main(["--dataset-json", str(moved)]) == 1
    assert tool.main(["--dataset-json", str(moved), "--root", str(tmp_path / "own")]) == 0
    capsys.readouterr()


def test_limit_on_pixels(tool, own, capsys):
    assert tool.main(["--dataset-json", str(own), "--max-pixels", "47"]) == 1
    assert "more than the limit of 47" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rwdt"], "check_dataset: data set 'rwdt' is unknown; did you mean rwtd?"),
        (["stld"], "STLD does not exist"),
        (["--dataset-json", "/nowhere/metadata.json"], "/nowhere does not exist"),
    ],
)
def test_unusable_arguments(tool, arguments, says, capsys, monkeypatch):
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", "/nowhere")
    assert tool.main(arguments) == 2
    captured = capsys.readouterr()
    assert says in captured.err and "Traceback" not in captured.err and captured.out == ""


@pytest.mark.parametrize("arguments", [[], ["rwtd", "--root", "x"], ["--unknown"]])
def test_contradictory_arguments(tool, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        tool.main(arguments)
    assert caught.value.code == 2
    capsys.readouterr()


def test_real_sets(tool, require_dataset, capsys):
    """Both real sets pass; a part of RWTD is a warning."""
    images = len(json.loads((require_dataset("RWTD") / "metadata.json").read_text()))
    require_dataset("BSDS_coarse")
    assert tool.main(["rwtd", "bsds_coarse"]) == 0
    out = capsys.readouterr().out
    assert f"K=2: {images}" in out
    if images < 253:
        assert f"{images} images where the published set has 253" in out


def test_as_a_command():
    """The samples that ship with the repository, in a process of its own."""
    command = [sys.executable, str(TOOL), "samples", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["datasets"][0]["images"] == 6
    assert "samples" in done.stderr  # the progress bar


def test_a_set_with_the_regions_of_several_people(tool, tmp_path, monkeypatch, capsys):
    truths = {"1": [strips(2), strips(3)]}
    write_toy_set(tmp_path / "BSDS500", truths)
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(tmp_path))
    assert tool.main(["bsds500_test"]) == 0
    out = capsys.readouterr().out
    assert "1 image, 2 maps of regions" in out
    assert "1 image where the published set has 200" in out
    (tmp_path / "BSDS500/groundTruth/test/1.mat").write_bytes(b"")
    assert tool.main(["bsds500_test", "--json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    assert report["findings"][0]["kind"] == "unreadable_regions"
    assert tool.main(["bsds500_train"]) == 2
    assert "images/train, does not exist" in capsys.readouterr().err


# ---- sets of semantic segmentation -----------------------------------------------------------


@pytest.fixture
def semantic(tmp_path):
    before = set(DatasetCatalog.list())
    yield write_semantic_folder(tmp_path / "mine")
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_sound_semantic_folder(tool, semantic, capsys):
    assert tool.main(["--semantic-root", str(semantic)]) == 0
    out = capsys.readouterr().out
    assert "4 images, 3 classes, 3 of them labelled" in out
    assert "pixels of no class: 8.33%" in out and "ok, 0 warnings" in out


def test_every_defect_of_a_semantic_folder_is_named(tool, semantic, capsys):
    (semantic / "labels/toy_0.png").unlink()
    Image.new("L", (5, 5)).save(semantic / "labels/toy_1.png")
    Image.new("L", (32, 24), 7).save(semantic / "labels/toy_2.png")
    (semantic / "images/toy_3.png").write_bytes(b"no image")
    Image.new("L", (32, 24)).save(semantic / "labels/extra.png")
    assert tool.main(["--semantic-root", str(semantic), "--json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)["datasets"]
    found = {finding["kind"]: finding["text"] for finding in report["findings"]}
    assert set(found) == {
        *("missing_mask", "mask_size", "label_range", "unreadable_image", "missing_image")
    }
    assert f"{semantic}/labels/toy_0.png: does not exist; add it" in found["missing_mask"]
    assert "toy_1.png: is 5 x 5 pixels" in found["mask_size"]
    assert (
        "768 pixels have labels that are no class (7); the class list has 3 names"
        in (found["label_range"])
    )
    assert found["missing_image"].endswith("extra.png: no image has its name; it is not used")
    assert tool.main(["--semantic-root", str(semantic)]) == 1
    assert "4 errors, 1 warning\n" in capsys.readouterr().out


def test_classes_and_images_without_a_label_are_warnings(tool, semantic, capsys):
    (semantic / "classes.json").write_text(json.dumps(["red", "green", "blue", "never"]))
    Image.new("L", (32, 24), 255).save(semantic / "labels/toy_0.png")
    assert tool.main(["--semantic-root", str(semantic)]) == 0
    out = capsys.readouterr().out
    assert "warning unused_class: 1 classes of the list have no pixel anywhere: never" in out
    assert "warning no_label: record 0 (id toy_0)" in out and "ok, 2 warnings" in out


def test_what_a_semantic_folder_lacks(tool, semantic, capsys):
    assert tool.main(["ade20k_150_test_sem_seg"]) == 2
    assert "set DETECTRON2_DATASETS" in capsys.readouterr().err
    (semantic / "classes.json").unlink()
    assert tool.main(["--semantic-root", str(semantic)]) == 2
    assert "classes.json does not exist; write the names" in capsys.readouterr().err
