import itertools
import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, SequentialSampler, get_worker_info

from detecture.d2 import (
    DatasetCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    comm,
    get_cfg,
)

SIZES = {"contract_a": 5, "contract_b": 3}


def records(name):
    return [
        {"image_id": f"{name}/{i}", "width": 4, "height": 3, "index": i} for i in range(SIZES[name])
    ]


@pytest.fixture(autouse=True)
def data_sets():
    for name in SIZES:
        DatasetCatalog.register(name, lambda name=name: records(name))
    DatasetCatalog.register("contract_empty", list)
    yield
    for name in [*SIZES, "contract_empty"]:
        DatasetCatalog.remove(name)


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("contract_a", "contract_b")
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 4
    return cfg


def mapper(record):
    record["mapped"] = record.get("mapped", 0) + 1  # a mapper may change what it is given
    # numpy's global generator is what mappers of others use.
    record["draws"] = (random.random(), float(np.random.rand()), float(torch.rand(())))  # noqa: NPY002
    worker = get_worker_info()
    record["worker"] = None if worker is None else worker.id
    return record


def drop_odd(record):
    return None if record["index"] % 2 else record


def drop_all(record):
    return None


def take(loader, count):
    return list(itertools.islice(iter(loader), count))


# ---- training -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_train_loader_from_config(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    batches = take(build_detection_train_loader(cfg, mapper=mapper), 10)
    assert all(isinstance(batch, list) and len(batch) == 4 for batch in batches)
    seen = [record["image_id"] for batch in batches for record in batch]
    # 40 records are five passes over eight.
    every = {record["image_id"] for name in SIZES for record in records(name)}
    assert all(seen.count(image_id) == 5 for image_id in every)
    # Each access starts from the record as it was registered.
    assert {record["mapped"] for batch in batches for record in batch} == {1}


def test_train_loader_follows_the_sampler_and_explicit_arguments_win(cfg):
    loader = build_detection_train_loader(
        cfg,
        mapper=mapper,
        dataset=records("contract_a"),
        sampler=SequentialSampler(range(5)),
        total_batch_size=2,
        aspect_ratio_grouping=False,
    )
    indices = [[record["index"] for record in batch] for batch in loader]
    assert indices == [[0, 1], [2, 3]]  # the last batch is not full


def test_train_loader_without_config_takes_lists_and_data_sets():
    class Squares(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return index * index

    for dataset in ([0, 1, 4, 9], Squares()):
        loader = build_detection_train_loader(
            dataset, mapper=lambda x: x + 1, total_batch_size=4, aspect_ratio_grouping=False
        )
        assert sorted(take(loader, 1)[0]) == [1, 2, 5, 10]


def test_train_loader_collates_as_told(cfg):
    indices = build_detection_train_loader(
        cfg, mapper=lambda record: record["index"], aspect_ratio_grouping=False
    )
    assert isinstance(take(indices, 1)[0], list)
    loader = build_detection_train_loader(
        records("contract_a"),
        mapper=lambda record: record["index"],
        total_batch_size=5,
        collate_fn=sum,
        aspect_ratio_grouping=False,
    )
    assert take(loader, 2) == [10, 10]


@pytest.mark.parametrize("workers", [0, 2])
def test_wide_images_are_batched_apart(cfg, workers):
    shapes = [(4, 3), (3, 4), (9, 1), (2, 2), (1, 9), (5, 4)]
    mixed = [{"index": i, "width": w, "height": h} for i, (w, h) in enumerate(shapes)]
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = build_detection_train_loader(
        cfg, mapper=mapper, dataset=mixed, sampler=SequentialSampler(mixed), total_batch_size=2
    )
    batches = [[record["index"] for record in batch] for batch in loader]
    # A batch is given as soon as it is full; one that never is, is left out.
    assert sorted(batches) == [[0, 2], [1, 3]]
    together = build_detection_train_loader(
        mixed, mapper=mapper, total_batch_size=2, collate_fn=len, sampler=SequentialSampler(mixed)
    )
    assert list(together) == [2, 2]


def test_grouping_needs_width_and_height(cfg):
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = True

    def bare(record):
        return {"index": record["index"]}

    with pytest.raises(KeyError, match=r"width|height"):
        take(build_detection_train_loader(cfg, mapper=bare), 1)
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    assert len(take(build_detection_train_loader(cfg, mapper=bare), 1)[0]) == 4
    with pytest.raises(Exception, match=r"(?i)aspect"):
        build_detection_train_loader(
            records("contract_a"), mapper=mapper, total_batch_size=1, drop_last=False
        )


def test_the_configs_seed_decides_the_order(cfg):
    def order(seed):
        cfg.SEED = seed
        loader = build_detection_train_loader(cfg, mapper=mapper)
        return [record["image_id"] for batch in take(loader, 4) for record in batch]

    assert order(5) == order(5) != order(6)


@pytest.mark.parametrize("workers", [0, 2])
def test_record_that_the_mapper_drops_is_replaced_in_training(workers):
    loader = build_detection_train_loader(
        records("contract_a"),
        mapper=drop_odd,
        total_batch_size=5,
        num_workers=workers,
        aspect_ratio_grouping=False,
    )
    for batch in take(loader, 4):
        assert len(batch) == 5
        assert all(record["index"] % 2 == 0 for record in batch)


@pytest.mark.lite_only
def test_replacements_depend_on_the_index_only():
    def indices():
        loader = build_detection_train_loader(
            records("contract_a"),
            mapper=drop_odd,
            sampler=SequentialSampler(range(5)),
            total_batch_size=1,
        )
        return [batch[0]["index"] for batch in loader]

    assert indices() == indices()


@pytest.mark.lite_only
def test_mapper_that_drops_everything_is_an_error():
    loader = build_detection_train_loader(
        records("contract_a"), mapper=drop_all, total_batch_size=1
    )
    with pytest.raises(Exception, match="None for all 5 training records"):
        take(loader, 1)


def test_workers_draw_different_numbers(cfg):
    cfg.DATALOADER.NUM_WORKERS = 2
    batches = take(build_detection_train_loader(cfg, mapper=mapper), 4)
    drawn = [record["draws"] for batch in batches for record in batch]
    for kind in zip(*drawn, strict=True):  # python, numpy, torch
        assert len(set(kind)) == len(kind)
    assert {record["worker"] for batch in batches for record in batch} == {0, 1}


@pytest.mark.lite_only
def test_seed_repeats_order_and_augmentation(cfg):
    def run(seed):
        loader = build_detection_train_loader(cfg, mapper=mapper, seed=seed, num_workers=2)
        return [(r["image_id"], r["draws"]) for batch in take(loader, 4) for r in batch]

    assert run(5) == run(5)
    assert [image for image, _ in run(5)] != [image for image, _ in run(6)]
    assert run(5)[0][1] != run(6)[0][1]


@pytest.mark.lite_only
def test_order_does_not_depend_on_the_number_of_workers(cfg):
    def order(workers):
        loader = build_detection_train_loader(cfg, mapper=mapper, seed=5, num_workers=workers)
        return [r["image_id"] for batch in take(loader, 4) for r in batch]

    assert order(0) == order(2)


def test_batch_is_split_over_processes(cfg, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    sampler = SequentialSampler(range(8))
    if "get_world_size" in build_detection_train_loader.__wrapped__.__globals__:
        # detectron2 has its own reference to the function.
        monkeypatch.setitem(
            build_detection_train_loader.__wrapped__.__globals__, "get_world_size", lambda: 2
        )
    loader = build_detection_train_loader(cfg, mapper=mapper, sampler=sampler)
    assert len(take(loader, 1)[0]) == 2
    cfg.SOLVER.IMS_PER_BATCH = 5
    with pytest.raises(Exception, match=r"(?i)batch.*5"):
        build_detection_train_loader(cfg, mapper=mapper, sampler=sampler)


@pytest.mark.lite_only
def test_uneven_batch_error_names_the_key(cfg, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    cfg.SOLVER.IMS_PER_BATCH = 5
    with pytest.raises(Exception, match=r"SOLVER\.IMS_PER_BATCH 5 .* 2 processes"):
        build_detection_train_loader(cfg, mapper=mapper, sampler=SequentialSampler(range(8)))


def test_empty_annotations_are_left_out_in_training_only(cfg):
    annotated = [
        {"index": 0, "annotations": [{"iscrowd": 0}], "width": 1, "height": 1},
        {"index": 1, "annotations": [], "width": 1, "height": 1},
        {"index": 2, "annotations": [{"iscrowd": 1}], "width": 1, "height": 1},
        {"index": 3, "annotations": [{}], "width": 1, "height": 1},
    ]
    DatasetCatalog.register("contract_annotated", lambda: annotated)
    try:
        cfg.DATASETS.TRAIN = ("contract_annotated",)
        cfg.SOLVER.IMS_PER_BATCH = 2
        loader = build_detection_train_loader(cfg, mapper=mapper)
        assert {r["index"] for batch in take(loader, 4) for r in batch} == {0, 3}
        tested = build_detection_test_loader(cfg, "contract_annotated", mapper=mapper)
        assert [batch[0]["index"] for batch in tested] == [0, 1, 2, 3]
        cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
        loader = build_detection_train_loader(cfg, mapper=mapper)
        assert {r["index"] for batch in take(loader, 4) for r in batch} == {0, 1, 2, 3}
    finally:
        DatasetCatalog.remove("contract_annotated")


def test_training_data_sets_must_exist_and_have_records(cfg):
    cfg.DATASETS.TRAIN = ("contract_a", "nothing_here")
    with pytest.raises(KeyError, match="nothing_here"):
        build_detection_train_loader(cfg, mapper=mapper)
    cfg.DATASETS.TRAIN = ("contract_a", "contract_empty")
    with pytest.raises(Exception, match="contract_empty"):
        build_detection_train_loader(cfg, mapper=mapper)


@pytest.mark.lite_only
def test_config_errors_name_the_key(cfg):
    with pytest.raises(TypeError, match="build_detection_train_loader needs mapper"):
        build_detection_train_loader(cfg)
    with pytest.raises(TypeError, match="build_detection_test_loader needs mapper"):
        build_detection_test_loader(cfg, "contract_a")
    cfg.DATALOADER.SAMPLER_TRAIN = "Another"
    with pytest.raises(Exception, match=r"DATALOADER\.SAMPLER_TRAIN 'Another'"):
        build_detection_train_loader(cfg, mapper=mapper)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(Exception, match=r"DATASETS\.TRAIN is empty"):
        build_detection_train_loader(cfg, mapper=mapper)


@pytest.mark.lite_only
def test_data_set_without_length_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            yield from range(3)

    with pytest.raises(TypeError, match="Stream has no length"):
        build_detection_train_loader(Stream(), mapper=mapper, total_batch_size=1)


# ---- testing --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_test_loader_gives_every_record_once_in_order(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    batches = list(build_detection_test_loader(cfg, "contract_a", mapper=mapper))
    assert [[r["image_id"] for r in batch] for batch in batches] == [
        [f"contract_a/{i}"] for i in range(5)
    ]


def test_test_loader_last_batch_may_be_smaller(cfg):
    loader = build_detection_test_loader(records("contract_a"), mapper=mapper, batch_size=2)
    assert len(loader) == 3
    assert [len(batch) for batch in loader] == [2, 2, 1]


@pytest.mark.lite_only
def test_test_loader_refuses_a_mapper_that_drops(cfg):
    loader = build_detection_test_loader(records("contract_a"), mapper=drop_odd)
    with pytest.raises(Exception, match="None for test record 1"):
        list(loader)


@pytest.mark.lite_only
def test_list_is_held_as_one_block_of_bytes():
    source = records("contract_a")
    loader = build_detection_train_loader(
        source, mapper=None, total_batch_size=1, aspect_ratio_grouping=False
    )
    source[0]["index"] = "changed"
    held = loader.dataset
    assert [held[i]["index"] for i in range(len(held))] == [0, 1, 2, 3, 4]
    assert not any(isinstance(value, (list, dict)) for value in vars(held).values())
    with pytest.raises(IndexError):
        held[len(source)]
