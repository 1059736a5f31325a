"""Procedural data sets through catalogs, mapper, loaders and evaluator."""

import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import Sampler

from detecture.config import make_config
from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data import (
    SyntheticMapper,
    build_test_loader,
    build_train_loader,
    load_ground_truth,
    load_registered,
    register_synthetic_datasets,
)
from detecture.data.datasets.synthetic import SPLITS, ProceduralRecords
from detecture.data.ground_truth import load_image_and_truth
from detecture.data.synthetic import render_scene
from detecture.engine.evaluate import evaluate_dataset
from detecture.modeling import build_model

RECORD = {"image_id": "x", "seed": 12, "index": 3}


@pytest.fixture
def small():
    """A registered set of six images."""
    name = "synthetic_small"
    records = ProceduralRecords(name, seed=12, length=6)
    DatasetCatalog.register(name, records)
    MetadataCatalog.get(name).set(
        k_regime="autonomous", evaluator_type="texture", mapper="SyntheticMapper"
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_registration():
    register_synthetic_datasets()  # again: no harm
    lengths = {"synthetic_train": 1_000_000, "synthetic_val": 500, "synthetic_test": 1000}
    for name, length in lengths.items():
        records, metadata = load_registered(name), MetadataCatalog.get(name)
        assert len(records) == length
        assert metadata.k_regime == "autonomous" and metadata.evaluator_type == "texture"
        assert metadata.mapper == "SyntheticMapper"
    assert len({split.seed for split in SPLITS.values()}) == 3
    editions = {name: split.edition for name, split in SPLITS.items()}
    assert editions == {"synthetic_train": 2, "synthetic_val": 2, "synthetic_test": 1}


@pytest.mark.parametrize("edition", [1, 2])
def test_records_say_the_edition_that_is_drawn(edition):
    record = ProceduralRecords("x", 12, 4, edition)[3]
    image, truth = load_image_and_truth(record, 10**6)
    scene = render_scene(12, 3, edition=edition)
    assert np.array_equal(image, scene.image) and truth.descriptions == scene.descriptions


def test_records_are_a_sequence():
    records = ProceduralRecords("x", 4, 5)
    assert records[1] == {"image_id": "x_0000001", "seed": 4, "index": 1, "edition": 1}
    assert records[-1] == records[4] and list(records) == records[:] and len(records[1:3]) == 2
    assert len({record["image_id"] for record in records}) == 5
    assert pickle.loads(pickle.dumps(records)) == records
    with pytest.raises(IndexError):
        records[5]


def test_evaluation_dict():
    mapped = SyntheticMapper(make_config(None), is_train=False)(RECORD)
    scene = render_scene(12, 3)
    assert set(mapped) == {"file_name", "image_id", "height", "width", "k_hint", "image"}
    assert mapped["image"].dtype == torch.uint8
    assert np.array_equal(mapped["image"].permute(1, 2, 0).numpy(), scene.image)
    assert (mapped["height"], mapped["width"]) == (256, 256) and mapped["file_name"] == "x"
    truth = load_ground_truth(RECORD, 10**6)
    assert np.array_equal(truth.masks, scene.masks) and truth.descriptions == scene.descriptions
    assert np.array_equal(truth.index_map > 0, scene.masks.any(axis=0))


def test_hint_and_oracle():
    cfg = make_config(None, ["TEST.COUNT", "per_image", "TEST.ORACLE", "True"])
    mapped = SyntheticMapper(cfg, is_train=False)(RECORD)
    scene = render_scene(12, 3)
    assert mapped["k_hint"].k == len(scene.masks) and mapped["k_hint"].kind == "per_image"
    assert mapped["descriptions"] == scene.descriptions and mapped["oracle"] is True


@pytest.mark.parametrize(("train_size", "drawn"), [(64, 64), (20, 32), (600, 512)])
def test_training_dict(train_size, drawn):
    overrides = ["INPUT.TRAIN_SIZE", str(train_size), "INPUT.MICRO_CROP.PROB", "0.0"]
    mapped = SyntheticMapper(make_config(None, overrides), is_train=True)(RECORD)
    assert mapped["image"].shape == (3, train_size, train_size)
    assert mapped["sem_seg"].shape == (train_size, train_size)
    assert (mapped["height"], mapped["width"]) == (drawn, drawn)
    assert len(mapped["descriptions"]) == mapped["sem_seg"].max()
    if train_size == drawn:
        scene = render_scene(12, 3, drawn)
        assert mapped["descriptions"] == scene.descriptions
        assert torch.equal(mapped["sem_seg"] == 1, torch.from_numpy(scene.masks[0]))


def test_training_loader_makes_no_million_records(small, monkeypatch):
    cfg = make_config(
        None,
        ["DATASETS.TRAIN", f"('synthetic_train', '{small}')", "INPUT.TRAIN_SIZE", "48",
         "SOLVER.IMS_PER_BATCH", "3", "DATALOADER.NUM_WORKERS", "0"],
    )  # fmt: skip
    drawn = []
    draw = ProceduralRecords.__getitem__
    monkeypatch.setattr(
        ProceduralRecords, "__getitem__", lambda self, i: drawn.append(i) or draw(self, i)
    )

    class Fixed(Sampler):
        def __iter__(self):
            yield from (7, 999_999, 1_000_001, 0, 1, 2)

    loader = build_train_loader(cfg, sampler=Fixed())
    batch = next(iter(loader))
    ids = [mapped["image_id"] for mapped in batch]
    assert ids == ["synthetic_train_0000007", "synthetic_train_0999999", "synthetic_small_0000001"]
    assert drawn == [7, 999_999, 1]


def test_workers_draw_the_same(small):
    def images(workers):
        cfg = make_config(None, ["DATALOADER.NUM_WORKERS", str(workers)])
        return [batch[0]["image"] for batch in build_test_loader(cfg, small)]

    for one, other in zip(images(0), images(2), strict=True):
        assert torch.equal(one, other)


def test_evaluation(small, tmp_path):
    """Floors end to end: the truth of every record is found, and a second run keeps it all."""
    cfg = make_config(
        "configs/baselines/floor_one_region.yaml",
        ["OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"],
    )
    for _ in range(2):
        results = evaluate_dataset(cfg, build_model(cfg), small)
    lines = (tmp_path / "inference" / small / "records.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines if '"k_gt"' in line]
    truth = [render_scene(12, index) for index in range(6)]
    assert [r["k_gt"] for r in records] == [len(scene.masks) for scene in truth]
    assert {r["status"] for r in records} == {"ok"}
    largest = [scene.masks.mean(axis=(1, 2)).max() for scene in truth]
    assert [max(r["matched_ious"]) for r in records] == pytest.approx(largest)
    assert results["texture"]["n_ok"] == 6
