"""datasets/prepare_bsds_coarse.py: the rule, on small files; the set itself, where it is there."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scripts import load_script
from segmentations_toy import SIZE, strips, write_image, write_toy_set

from detecture.data import load_registered
from detecture.data.image_io import read_mask


@pytest.fixture
def script():
    return load_script("datasets/prepare_bsds_coarse.py")


def uneven(*shares):
    """Upright strips (H,W) of these shares of the width, numbered from 1."""
    ends = np.cumsum(shares) * 100
    return (np.arange(100)[None] >= ends[:, None]).sum(axis=0)[None].repeat(100, 0) + 1


def test_the_fewest_regions_count_the_largest_first(script):
    found = script.coarsest([strips(9, (100, 100)), uneven(0.2, 0.5, 0.3), uneven(0.1, 0.1, 0.8)])
    assert found.dtype == np.uint8
    assert [int(v) for v in found[0, [0, 40, 90]]] == [3, 1, 2]
    assert [int((found == v).sum()) for v in (1, 2, 3)] == [5000, 3000, 2000]


@pytest.mark.parametrize(
    ("maps", "qualifies"),
    [
        ([strips(1), strips(3)], False),
        ([strips(7)], False),
        ([strips(6), strips(7)], True),
        ([uneven(0.01, 0.99)], True),
        ([uneven(0.01, 0.99) + 5], True),  # labels need not begin at 1
        ([np.where(np.arange(10**4).reshape(100, 100) < 99, 1, 2), strips(3, (100, 100))], False),
    ],
)
def test_which_images_qualify(script, maps, qualifies):
    assert (script.coarsest(maps) is not None) == qualifies


@pytest.mark.parametrize("inner", ["", "data"])
def test_a_set_of_two(script, tmp_path, monkeypatch, capsys, inner):
    truths = {"12": [strips(4), strips(2)], "7": [strips(3)], "8": [strips(1)]}
    write_toy_set(tmp_path / "BSDS500" / inner, truths, "train")
    monkeypatch.setattr(script, "IMAGES", ["12", "7"])
    for _ in range(2):  # the second time it replaces its own
        assert script.main(["--root", str(tmp_path)]) == 0
    assert "BSDS_coarse: 2 images" in capsys.readouterr().out
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(tmp_path))
    records = load_registered("bsds_coarse")
    assert [(r["image_id"], len(r["textures"])) for r in records] == [("12", 2), ("7", 3)]
    assert {texture["description"] for r in records for texture in r["textures"]} == {""}
    copied = Path(records[0]["file_name"]).read_bytes()
    assert copied == (tmp_path / "BSDS500" / inner / "images/train/12.jpg").read_bytes()


def test_what_is_missing_or_wrong_is_said(script, tmp_path, monkeypatch, capsys):
    def refusal():
        assert script.main(["--root", str(tmp_path)]) == 2
        assert not (tmp_path / "BSDS_coarse").exists()
        return capsys.readouterr().err

    assert "100075.jpg does not exist, nor do 91 others of 92" in refusal()
    write_toy_set(tmp_path / "BSDS500", {"7": [strips(1)]}, "train")
    monkeypatch.setattr(script, "IMAGES", ["7"])
    assert "7.mat: its coarsest annotator has not 2 to 6 regions" in refusal()
    (tmp_path / "BSDS500/groundTruth/train/7.mat").write_bytes(b"no mat")
    assert "7.mat" in refusal()
    write_toy_set(tmp_path / "BSDS500", {"7": [strips(2)]}, "train")
    write_image(tmp_path / "BSDS500/images/train/7.jpg", (SIZE[0], SIZE[1] + 1))
    assert "'7': its image is 24 x 33 pixels" in refusal()


def test_a_set_of_somebody_else_is_kept(script, tmp_path, monkeypatch, capsys):
    write_toy_set(tmp_path / "BSDS500", {"7": [strips(2)]}, "train")
    monkeypatch.setattr(script, "IMAGES", ["7"])
    (tmp_path / "BSDS_coarse").mkdir()
    (tmp_path / "BSDS_coarse/metadata.json").write_text("[]")
    assert script.main(["--root", str(tmp_path)]) == 2
    assert "is there already, and no export of this program" in capsys.readouterr().err
    assert (tmp_path / "BSDS_coarse/metadata.json").read_text() == "[]"


def test_it_is_the_set_that_the_figures_are_of(script, tmp_path, monkeypatch, require_dataset):
    there, source = require_dataset("BSDS_coarse"), require_dataset("BSDS500")
    shutil.copytree(source, tmp_path / "BSDS500")
    assert script.main(["--root", str(tmp_path)]) == 0
    sets = []
    for root in (there.parent, tmp_path):
        monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(root))
        sets.append(load_registered("bsds_coarse"))
    assert [r["image_id"] for r in sets[0]] == [r["image_id"] for r in sets[1]] == script.IMAGES
    for old, new in zip(*sets, strict=True):
        assert Path(old["file_name"]).read_bytes() == Path(new["file_name"]).read_bytes()
        assert len(old["textures"]) == len(new["textures"])
        for a, b in zip(old["textures"], new["textures"], strict=True):
            assert a["description"] == b["description"] == ""
            assert (read_mask(a["mask_file"], 10**6) == read_mask(b["mask_file"], 10**6)).all()
