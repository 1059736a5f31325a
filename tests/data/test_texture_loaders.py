from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import Sampler

from detecture.config import make_config
from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data import (
    DATASET_MAPPER_REGISTRY,
    build_texture_test_loader,
    build_texture_train_loader,
    register_dataset_json,
    register_texture_dataset,
)
from detecture.errors import ConfigError, DatasetError


@pytest.fixture(autouse=True)
def clean_catalogs():
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def config(*overrides: str):
    small = ("DATALOADER.NUM_WORKERS", "0", "INPUT.TRAIN_SIZE", "32", "SOLVER.IMS_PER_BATCH", "2")
    return make_config(None, [*small, *overrides])


def test_every_record_once_in_order(make_dataset):
    name = register_dataset_json(make_dataset(count=4))
    batches = list(build_texture_test_loader(config(), name))
    assert [len(batch) for batch in batches] == [1] * 4
    assert [batch[0]["image_id"] for batch in batches] == ["p0", "p1", "p2", "p3"]


def test_workers_give_the_same(make_dataset):
    name = register_dataset_json(make_dataset(count=5))
    alone = [b[0] for b in build_texture_test_loader(config(), name)]
    helped = [b[0] for b in build_texture_test_loader(config("DATALOADER.NUM_WORKERS", "2"), name)]
    for one, other in zip(alone, helped, strict=True):
        assert one["image_id"] == other["image_id"] and torch.equal(one["image"], other["image"])


def test_skipping(make_dataset):
    name = register_dataset_json(make_dataset(count=4))
    loader = build_texture_test_loader(config(), name, skip_ids={"p1", "p2", "unknown"})
    assert [batch[0]["image_id"] for batch in loader] == ["p0", "p3"]
    empty = build_texture_test_loader(config(), name, skip_ids={"p0", "p1", "p2", "p3"})
    assert len(empty) == 0 and list(empty) == []


def test_one_broken_picture_does_not_end_the_run(make_dataset):
    path = make_dataset(count=3)
    (path.parent / "images/p1.png").write_bytes(b"oops")
    (path.parent / "images/p2.png").unlink()
    loader = build_texture_test_loader(config(), register_dataset_json(path))
    mapped = [batch[0] for batch in loader]
    assert [m.get("status") for m in mapped] == [None, "image_unreadable", "image_unreadable"]


def test_regime_of_the_set_reaches_the_hint(make_dataset):
    path = make_dataset()
    register_texture_dataset("pairs", path, path.parent, k_regime="pair")
    hints = [batch[0]["k_hint"].k for batch in build_texture_test_loader(config(), "pairs")]
    assert hints == [2, 2, 2]


def test_unknown_set():
    with pytest.raises(DatasetError, match="did you mean rwtd"):
        build_texture_test_loader(config(), "rwtdd")
    with pytest.raises(DatasetError, match="did you mean rwtd"):
        build_texture_train_loader(config("DATASETS.TRAIN", "('rwtdd',)"))


# ---- training ----------------------------------------------------------------------------------


class Fixed(Sampler[int]):
    def __init__(self, *indices: int) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def take(cfg, count: int, **arguments: object) -> list[list[dict]]:
    loader = iter(build_texture_train_loader(cfg, **arguments))
    return [next(loader) for _ in range(count)]


def test_training_batches(make_dataset):
    name = register_dataset_json(make_dataset(count=3))
    batches = take(config("DATASETS.TRAIN", f"('{name}',)"), 6)
    assert all(len(batch) == 2 for batch in batches)
    seen = [mapped["image_id"] for batch in batches for mapped in batch]
    assert sorted(seen) == sorted(["p0", "p1", "p2"] * 4)
    assert batches[0][0]["image"].shape == (3, 32, 32)


def test_batch_size_and_sampler_may_be_given(make_dataset):
    name = register_dataset_json(make_dataset(count=3))
    cfg = config("DATASETS.TRAIN", f"('{name}',)")
    (batch,) = take(cfg, 1, sampler=Fixed(2, 0, 1, 2), total_batch_size=4)
    assert [mapped["image_id"] for mapped in batch] == ["p2", "p0", "p1", "p2"]


class MarkingMapper:
    """Marks what it maps with the data set's name."""

    def __init__(self, cfg, is_train: bool, dataset_name: str) -> None:
        self.mark = (dataset_name, is_train)

    def __call__(self, record: dict) -> dict:
        return {"mark": self.mark, "image_id": record["image_id"]}


def test_every_set_has_its_own_mapper(make_dataset):
    if "MarkingMapper" not in DATASET_MAPPER_REGISTRY:
        DATASET_MAPPER_REGISTRY.register(MarkingMapper)
    usual = register_dataset_json(make_dataset("usual", count=1))
    path: Path = make_dataset("marked", count=1)
    register_texture_dataset("marked", path, path.parent, mapper="MarkingMapper")
    cfg = config("DATASETS.TRAIN", f"('{usual}','marked')")
    (batch,) = take(cfg, 1, sampler=Fixed(0, 1), total_batch_size=2)
    assert "sem_seg" in batch[0] and "mark" not in batch[0]
    assert batch[1] == {"mark": ("marked", True), "image_id": "p0"}


def test_another_record_takes_the_place_of_a_broken_one(make_dataset, caplog):
    path = make_dataset(count=3)
    (path.parent / "textures_mask/p1_mask_0.png").write_bytes(b"oops")
    cfg = config("DATASETS.TRAIN", f"('{register_dataset_json(path)}',)")
    (batch,) = take(cfg, 1, sampler=Fixed(0, 1, 2, 1), total_batch_size=4)
    ids = [mapped["image_id"] for mapped in batch]
    assert ids[0] == "p0" and ids[2] == "p2" and "p1" not in ids
    assert "p1_mask_0.png" in caplog.text


CROPPING = ("INPUT.MICRO_CROP.PROB", "1.0", "INPUT.MICRO_CROP.MIN_REGIONS", "1")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_augmentation_follows_the_seed_and_differs_between_workers(make_dataset, workers):
    name = register_dataset_json(make_dataset(count=1))
    cfg = config("DATASETS.TRAIN", f"('{name}',)", "DATALOADER.NUM_WORKERS", workers, *CROPPING)

    def pictures(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        batches = take(cfg, 4, sampler=Fixed(0, 0, 0, 0), total_batch_size=1)
        return [batch[0]["image"] for batch in batches]

    first, again, other = pictures(3), pictures(3), pictures(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    # Records 0 and 1 come from different workers, 0 and 2 from the same one.
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_nothing_to_train_on():
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN is empty; name at least one"):
        build_texture_train_loader(config("DATASETS.TRAIN", "()"))
