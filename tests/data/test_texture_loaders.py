from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import Sampler

from detecture.config import make_config
from detecture.d2 import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_train_loader,
    comm,
)
from detecture.data import (
    DATASET_MAPPER_REGISTRY,
    build_test_loader,
    build_train_loader,
    register_dataset_json,
    register_texture_dataset,
)
from detecture.data.build import stream_of
from detecture.data.training_stream import StreamSampler, mix_seeds
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
    batches = list(build_test_loader(config(), name))
    assert [len(batch) for batch in batches] == [1] * 4
    assert [batch[0]["image_id"] for batch in batches] == ["p0", "p1", "p2", "p3"]


def test_workers_give_the_same(make_dataset):
    name = register_dataset_json(make_dataset(count=5))
    alone = [b[0] for b in build_test_loader(config(), name)]
    helped = [b[0] for b in build_test_loader(config("DATALOADER.NUM_WORKERS", "2"), name)]
    for one, other in zip(alone, helped, strict=True):
        assert one["image_id"] == other["image_id"] and torch.equal(one["image"], other["image"])


def test_skipping(make_dataset):
    name = register_dataset_json(make_dataset(count=4))
    loader = build_test_loader(config(), name, skip_ids={"p1", "p2", "unknown"})
    assert [batch[0]["image_id"] for batch in loader] == ["p0", "p3"]
    empty = build_test_loader(config(), name, skip_ids={"p0", "p1", "p2", "p3"})
    assert len(empty) == 0 and list(empty) == []


def test_one_broken_image_does_not_end_the_run(make_dataset):
    path = make_dataset(count=3)
    (path.parent / "images/p1.png").write_bytes(b"oops")
    (path.parent / "images/p2.png").unlink()
    loader = build_test_loader(config(), register_dataset_json(path))
    mapped = [batch[0] for batch in loader]
    assert [m.get("status") for m in mapped] == [None, "image_unreadable", "image_unreadable"]


def test_regime_of_the_set_reaches_the_hint(make_dataset):
    path = make_dataset()
    register_texture_dataset("pairs", path, path.parent, k_regime="pair")
    hints = [batch[0]["k_hint"].k for batch in build_test_loader(config(), "pairs")]
    assert hints == [2, 2, 2]


def test_unknown_set():
    with pytest.raises(DatasetError, match="did you mean rwtd"):
        build_test_loader(config(), "rwtdd")
    with pytest.raises(DatasetError, match="did you mean rwtd"):
        build_train_loader(config("DATASETS.TRAIN", "('rwtdd',)"))


# ---- training ----------------------------------------------------------------------------------


class Fixed(Sampler[int]):
    def __init__(self, *indices: int) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def take(cfg, count: int, **arguments: object) -> list[list[dict]]:
    loader = iter(build_train_loader(cfg, **arguments))
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

    def images(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        batches = take(cfg, 4, sampler=Fixed(0, 0, 0, 0), total_batch_size=1)
        return [batch[0]["image"] for batch in batches]

    first, again, other = images(3), images(3), images(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    # Records 0 and 1 come from different workers, 0 and 2 from the same one.
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_nothing_to_train_on():
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN is empty; name at least one"):
        build_train_loader(config("DATASETS.TRAIN", "()"))


# ---- the stream ----------------------------------------------------------------------------------


def flat(batches):
    return [(mapped["image_id"], mapped["image"]) for batch in batches for mapped in batch]


def equal(one, other):
    return [a for a, _ in one] == [b for b, _ in other] and all(
        torch.equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True)
    )


@pytest.fixture
def streamed(make_dataset):
    name = register_dataset_json(make_dataset(count=3))

    def stream(count, *overrides, start=0, seed="5"):
        cfg = config("DATASETS.TRAIN", f"('{name}',)", "SEED", seed, *CROPPING, *overrides)
        loader = build_train_loader(cfg)
        stream_of(loader).start_iteration = start
        batches = iter(loader)
        return flat([next(batches) for _ in range(count)])

    return stream


def test_the_stream_follows_from_the_seed_and_the_position(streamed):
    torch.manual_seed(1)
    whole = streamed(6)
    torch.manual_seed(2)
    assert equal(streamed(6), whole)  # whatever torch's own generator is at
    assert equal(streamed(4, start=2), whole[4:])  # resumed
    assert equal(streamed(6, "DATALOADER.NUM_WORKERS", "2"), whole)
    assert equal(streamed(2, "DATALOADER.NUM_WORKERS", "2", start=4), whole[8:])
    assert equal(streamed(12, "SOLVER.ACCUMULATION", "2"), whole)
    assert not equal(streamed(6, seed="6"), whole)
    # The same image comes again in the next epoch, with another crop.
    again = [image for image_id, image in whole if image_id == whole[0][0]]
    assert len(again) == 4 and not torch.equal(again[0], again[1])


def test_processes_share_the_stream(streamed, monkeypatch):
    whole = streamed(4, "SOLVER.IMS_PER_BATCH", "4", "SOLVER.ACCUMULATION", "2")
    shares = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    module = build_detection_train_loader.__wrapped__.__globals__
    if "get_world_size" in module:  # detectron2 has its own reference to the function
        monkeypatch.setitem(module, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        shares.append(streamed(4, "SOLVER.IMS_PER_BATCH", "4", "SOLVER.ACCUMULATION", "2"))
    dealt = [sample for pair in zip(*shares, strict=True) for sample in pair]
    assert equal(dealt, whole)


def test_every_epoch_is_a_permutation():
    sampler = StreamSampler(7, seed=0, batch_size=4)
    codes = iter(sampler)
    epochs = [[next(codes) for _ in range(7)] for _ in range(3)]
    assert [code // 7 for epoch in epochs for code in epoch] == list(range(21))
    orders = [[code % 7 for code in epoch] for epoch in epochs]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_a_broken_record_is_replaced_alike_after_resuming(make_dataset):
    path = make_dataset(count=4)
    (path.parent / "textures_mask/p1_mask_0.png").write_bytes(b"oops")
    cfg = config("DATASETS.TRAIN", f"('{register_dataset_json(path)}',)", "SEED", "1")
    whole = flat(take(cfg, 8))
    loader = build_train_loader(cfg)
    stream_of(loader).start_iteration = 4
    batches = iter(loader)
    assert equal(flat([next(batches) for _ in range(4)]), whole[8:])
    assert "p1" not in {image_id for image_id, _ in whole}


def test_all_records_broken(make_dataset):
    path = make_dataset(count=2)
    for mask in path.parent.glob("textures_mask/*"):
        mask.write_bytes(b"oops")
    cfg = config("DATASETS.TRAIN", f"('{register_dataset_json(path)}',)", "SEED", "1")
    with pytest.raises(DatasetError, match="100 training records in a row"):
        take(cfg, 1)


@pytest.mark.parametrize(("batch", "parts"), [("2", "4"), ("6", "4")])
def test_batches_that_cannot_be_split(streamed, batch, parts):
    with pytest.raises(ConfigError, match=rf"IMS_PER_BATCH {batch} .* multiple of {parts}"):
        streamed(1, "SOLVER.IMS_PER_BATCH", batch, "SOLVER.ACCUMULATION", parts)


def test_a_million_records_are_not_made():
    cfg = config("DATASETS.TRAIN", "('synthetic_train',)", "SEED", "0")
    loader = build_train_loader(cfg)
    assert stream_of(loader).size == 1_000_000
    (batch,) = [next(iter(loader))]
    assert len(batch) == 2 and batch[0]["image"].shape == (3, 32, 32)


def test_mixed_seeds_differ():
    seeds = {mix_seeds(a, b) for a in range(50) for b in range(50)}
    assert len(seeds) == 2500 and all(0 <= seed < 2**63 for seed in seeds)
