"""Data sets in BSDS500's layout: what is found, and what is told where something is missing."""

import numpy as np
import pytest
from segmentations_toy import (
    SIZE,
    register_toy_set,
    strips,
    write_image,
    write_segmentations,
    write_toy_set,
)

from detecture.config import make_config
from detecture.d2 import MetadataCatalog
from detecture.data import build_test_loader, build_train_loader, load_ground_truth, load_registered
from detecture.data.datasets.bsds500 import has_segmentations, load_segmentations
from detecture.data.validate_segmentations import check_segmentations
from detecture.engine.data_check import require_files
from detecture.errors import DatasetError

TRUTHS = {"12": [strips(2), strips(4)], "7": [strips(3)]}


def test_the_published_parts_are_registered():
    found = {part: MetadataCatalog.get(f"bsds500_{part}") for part in ("train", "val", "test")}
    assert [m.published_images for m in found.values()] == [200, 100, 200]
    for metadata in found.values():
        assert (metadata.evaluator_type, metadata.k_regime) == ("regions", "autonomous")
    assert has_segmentations("bsds500_val") and not has_segmentations("rwtd")


@pytest.mark.parametrize("inner", ["", "data"])
def test_layout(tmp_path, monkeypatch, inner):
    root = tmp_path / "BSDS500" / inner
    write_toy_set(root, TRUTHS, "val")
    (root / "images/val/Thumbs.db").write_bytes(b"")
    (root / "images/val/.hidden.jpg").write_bytes(b"")
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(tmp_path))
    records = load_registered("bsds500_val")
    assert [record["image_id"] for record in records] == ["12", "7"]
    maps = load_segmentations(records[0], 10**6)
    assert [(m.shape, m.dtype, m.max()) for m in maps] == [(SIZE, np.int64, n) for n in (2, 4)]
    with pytest.raises(DatasetError, match="more than the limit of 10"):
        load_segmentations(records[0], 10)
    with pytest.raises(DatasetError, match=r"images/test, does not exist; .*DETECTURE_DATASETS_RO"):
        load_registered("bsds500_test")


def test_a_folder_without_images(tmp_path):
    (tmp_path / "images/test").mkdir(parents=True)
    with pytest.raises(DatasetError, match="holds no image"):
        load_registered(register_toy_set(tmp_path))


def test_two_images_of_one_name(tmp_path):
    write_toy_set(tmp_path, TRUTHS)
    write_image(tmp_path / "images/test/7.png")
    with pytest.raises(DatasetError, match=r"7\.png: 7\.jpg has the same name"):
        load_registered(register_toy_set(tmp_path))


def test_all_regions_are_missing(tmp_path):
    write_image(tmp_path / "images/test/1.jpg")
    name = register_toy_set(tmp_path)
    with pytest.raises(DatasetError, match=r"none of its masks or label maps.*1\.mat"):
        require_files(name, load_registered(name))


def test_a_method_gets_the_image_and_no_truth(tmp_path):
    name = register_toy_set(write_toy_set(tmp_path, TRUTHS))
    cfg = make_config(None, ["DATALOADER.NUM_WORKERS", "0"])
    for (sample,) in build_test_loader(cfg, name):
        assert set(sample) == {"image", "image_id", "file_name", "height", "width", "k_hint"}
        assert sample["k_hint"].k is None and sample["image"].shape == (3, *SIZE)


def test_nothing_is_trained_on_it(tmp_path):
    name = register_toy_set(write_toy_set(tmp_path, TRUTHS))
    with pytest.raises(DatasetError, match="no list of textures with one mask each"):
        load_ground_truth(load_registered(name)[0], 10**6)
    cfg = make_config(None, ["DATALOADER.NUM_WORKERS", "0", "DATASETS.TRAIN", repr((name,))])
    with pytest.raises(DatasetError, match="is for evaluation alone"):
        build_train_loader(cfg)


def test_check_finds_every_defect(tmp_path):
    truths = {**TRUTHS, "1": [strips(2), strips(2)], "2": [strips(2)] * 3, "3": [strips(2)] * 2}
    write_toy_set(tmp_path, truths)
    (tmp_path / "images/test/1.jpg").write_bytes(b"no image")
    (tmp_path / "groundTruth/test/2.mat").unlink()
    write_segmentations(tmp_path / "groundTruth/test/3.mat", strips(2), strips(2, (3, 3)))
    write_segmentations(tmp_path / "groundTruth/test/nobody.mat", strips(2))
    name = register_toy_set(tmp_path, published_images=200)
    report = check_segmentations(name, max_pixels=10**6)
    assert [(f.severity, f.kind, f.image_id) for f in report.findings] == [
        ("error", "unreadable_image", "1"),
        ("error", "missing_regions", "2"),
        ("error", "unreadable_regions", "3"),
        ("warning", "missing_image", ""),
        ("warning", "published_count", ""),
        ("warning", "one_annotator", "7"),
    ]
    assert (report.images, report.annotators) == (5, {1: 1, 2: 2})
    assert report.regions_mean == pytest.approx((2 + 2 + 2 + 4 + 3) / 5)
    text = report.format()
    assert "5 images, 5 maps of regions, of 2.6 regions each" in text
    assert "1 by 1, 2 by 2" in text and "3 errors, 3 warnings" in text
    assert report.to_dict()["ok"] is False


def test_the_real_set(require_dataset):
    require_dataset("BSDS500")
    report = check_segmentations("bsds500_train", max_pixels=10**6)
    assert report.ok and report.images == 46
    assert report.annotators == {5: 29, 6: 15, 7: 2}
