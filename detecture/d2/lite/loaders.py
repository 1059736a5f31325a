"""Data loaders for training and for testing, built from a config or from explicit arguments."""

import logging
import pickle
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, Sampler

from detecture.errors import ConfigError, DatasetError

from . import comm
from .catalog import DatasetCatalog, Records
from .config import configurable
from .samplers import InferenceSampler, TrainingSampler

logger = logging.getLogger(__name__)

Mapper = Callable[[Any], Any]


class DatasetFromList(Dataset[Any]):
    """A list as a data set, held as one block of bytes.

    A worker process that reads a Python object changes its reference count, and so copies the page
    that it lies on: with N workers a list of dicts ends up in memory N times. One tensor of bytes
    stays shared.

    Args:
        records: picklable objects. Each access makes a new copy, which may be changed freely.
    """

    def __init__(self, records: Sequence[Any]) -> None:
        blocks = [pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL) for record in records]
        lengths = torch.tensor([len(block) for block in blocks], dtype=torch.int64)
        self._ends = torch.cumsum(lengths, dim=0)
        # bytearray: torch wants memory that it may write to.
        self._bytes = torch.frombuffer(
            bytearray(b"".join(blocks)) or bytearray(1), dtype=torch.uint8
        )

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        begin = int(self._ends[index - 1]) if index else 0
        block = self._bytes[begin : int(self._ends[index])].numpy()
        return pickle.loads(block.data)  # noqa: S301 (our own bytes, never from a file)


class MapDataset(Dataset[Any]):
    """A data set whose records go through a mapper.

    Args:
        dataset: a map-style data set.
        mapper: turns a record into what the model gets, or into None to leave the record out.
        replace_missing: on None, take other records, chosen by a generator that depends on nothing
            but the index, so that a resumed run takes the same ones. Otherwise None is an error.

    Raises:
        DatasetError: on access: the mapper returned None where that is an error, or for every
            record that there is.
    """

    def __init__(self, dataset: Dataset[Any], mapper: Mapper, *, replace_missing: bool) -> None:
        self._dataset = dataset
        self._mapper = mapper
        self._replace_missing = replace_missing

    def __len__(self) -> int:
        return _length(self._dataset)

    def __getitem__(self, index: int) -> Any:
        index = int(index)
        mapped = self._mapper(self._dataset[index])
        if mapped is not None:
            return mapped
        if not self._replace_missing:
            raise DatasetError(
                f"the mapper returned None for test record {index}; a record that is left out, or "
                "replaced, would falsify the evaluation"
            )
        return self._replacement(index)

    def _replacement(self, index: int) -> Any:
        generator = random.Random(index)
        tried = {index}
        while len(tried) < len(self):
            other = generator.randrange(len(self))
            if other in tried:
                continue
            tried.add(other)
            mapped = self._mapper(self._dataset[other])
            if mapped is not None:
                if len(tried) > 3:
                    logger.warning("record %d: %d replacements failed", index, len(tried) - 2)
                return mapped
        raise DatasetError(
            f"the mapper returned None for all {len(self)} training records; see its own messages"
        )


def _length(dataset: Sequence[Any] | Dataset[Any]) -> int:
    length = getattr(dataset, "__len__", None)
    if length is None:
        raise TypeError(
            f"{type(dataset).__name__} has no length; give a list of records or a map-style "
            "data set"
        )
    return int(length())


class AspectRatioGroupedDataset(IterableDataset[Any]):
    """Batches of images that are all wider than high, or none of them.

    Args:
        samples: mapped records with `width` and `height`; those of a last batch that is not full
            are left out.
        batch_size: samples of one batch.
        collate_fn: makes a batch of a list of samples.

    Raises:
        KeyError: while iterating, a sample lacks `width` or `height`.
    """

    def __init__(
        self,
        samples: Iterable[dict[str, Any]],
        batch_size: int,
        collate_fn: Callable[[list[Any]], Any],
    ) -> None:
        self._samples = samples
        self._batch_size = batch_size
        self._collate_fn = collate_fn

    def __iter__(self) -> Iterator[Any]:
        wide: list[Any] = []
        others: list[Any] = []
        for sample in self._samples:
            batch = wide if sample["width"] > sample["height"] else others
            batch.append(sample)
            if len(batch) == self._batch_size:
                full = batch[:]
                batch.clear()  # first: nothing after a yield is sure to run
                yield self._collate_fn(full)


def _only(batch: list[Any]) -> Any:
    return batch[0]


def trivial_batch_collator(batch: list[Any]) -> list[Any]:
    """Make a batch of mapped records: the list itself, since images differ in size."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed python, numpy and torch in a worker process, differently in each worker.

    Args:
        worker_id: number of the worker; torch has put it into `torch.initial_seed()` already.
    """
    seed = torch.initial_seed() % 2**31
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (mappers of others use the global generator)
    torch.manual_seed(seed)


def _load_records(names: Sequence[str], *, filter_empty: bool) -> Records:
    """The records of the named data sets, joined."""
    records: Records = []
    for name in names:
        own = DatasetCatalog.get(name)
        if not own:
            raise DatasetError(f"data set {name!r} has no records")
        records.extend(own)
    if filter_empty and "annotations" in records[0]:
        kept = [
            record
            for record in records
            if any(not annotation.get("iscrowd", 0) for annotation in record["annotations"])
        ]
        logger.info("Left out %d records without annotations", len(records) - len(kept))
        if not kept:
            raise DatasetError(f"no record of {', '.join(names)} has annotations")
        records = kept
    return records


def _no_mapper(function: str) -> TypeError:
    return TypeError(
        f"{function} needs mapper=...: a function from a record to what the model gets. The "
        "built-in Detectron2 API has no default mapper"
    )


def _as_dataset(
    dataset: Sequence[Any] | Dataset[Any], mapper: Mapper | None, *, replace_missing: bool
) -> Dataset[Any]:
    source = dataset if isinstance(dataset, Dataset) else DatasetFromList(dataset)
    _length(source)  # a data set without one is refused here, with a clear text
    if mapper is None:
        return source
    return MapDataset(source, mapper, replace_missing=replace_missing)


def _train_loader_from_config(
    cfg: CfgNode,
    mapper: Mapper | None = None,
    *,
    dataset: Sequence[Any] | Dataset[Any] | None = None,
    sampler: Sampler[int] | None = None,
) -> dict[str, Any]:
    if mapper is None:
        raise _no_mapper("build_detection_train_loader")
    if dataset is None:
        names = cfg.DATASETS.TRAIN
        if not names:
            raise ConfigError("DATASETS.TRAIN is empty; name at least one data set to train on")
        dataset = _load_records(
            [names] if isinstance(names, str) else names,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        )
    if sampler is None and cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ConfigError(
            f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN!r} is not known; use "
            "TrainingSampler, or pass sampler=..."
        )
    if sampler is None and cfg.SEED >= 0:
        sampler = TrainingSampler(_length(dataset), seed=cfg.SEED)
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Sequence[Any] | Dataset[Any],
    *,
    mapper: Mapper | None,
    sampler: Sampler[int] | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    drop_last: bool = True,
    seed: int | None = None,
    **kwargs: Any,
) -> Iterable[Any]:
    """Endless loader of training batches.

    Called as `build_detection_train_loader(cfg, mapper=...)` it loads the data sets that
    `cfg.DATASETS.TRAIN` names; any argument below may be given beside `cfg`.

    Args:
        dataset: a list of records, or a map-style data set.
        mapper: turns a record into what the model gets; None, as its result, leaves the record out
            and another one takes its place. None in its own place: records stay as they are.
        sampler: which records, in which order; by default `TrainingSampler`.
        total_batch_size: records in a batch, over all processes.
        aspect_ratio_grouping: batches are of images that are wider than high, or of others; every
            mapped record must have `width` and `height`. Otherwise batches follow the sampler.
        num_workers: worker processes that load data; 0: none, this process does.
        collate_fn: makes a batch of a list of mapped records; by default the list is the batch.
        drop_last: leave out a last batch that is not full (of a sampler that ends).
        seed: seed of the default sampler and of the workers; by default drawn at random.
        **kwargs: further arguments of `torch.utils.data.DataLoader`.

    Returns:
        A loader whose batches have `total_batch_size / number of processes` records each.

    Raises:
        ConfigError: `total_batch_size` cannot be split evenly over the processes, or
            `aspect_ratio_grouping` without `drop_last`.
        DatasetError: a data set is empty or not registered.
        TypeError: with a config, no mapper was given.
    """
    world_size = comm.get_world_size()
    if total_batch_size <= 0 or total_batch_size % world_size:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {total_batch_size} cannot be split evenly over {world_size} "
            f"processes; set it to a multiple of {world_size}"
        )
    mapped = _as_dataset(dataset, mapper, replace_missing=True)
    if sampler is None:
        sampler = TrainingSampler(_length(mapped), seed=seed)
    generator = None
    if seed is not None:
        # Other random numbers in every process, or all would augment alike.
        generator = torch.Generator()
        generator.manual_seed(seed + comm.get_rank())
    batch_size, collate_fn = total_batch_size // world_size, collate_fn or trivial_batch_collator
    if aspect_ratio_grouping and not drop_last:
        raise ConfigError(
            "drop_last=False does not go with aspect_ratio_grouping, which leaves out batches that "
            "are not full; pass aspect_ratio_grouping=False (DATALOADER.ASPECT_RATIO_GROUPING)"
        )
    loader: DataLoader[Any] = DataLoader(
        mapped,
        batch_sampler=BatchSampler(sampler, 1 if aspect_ratio_grouping else batch_size, drop_last),
        num_workers=num_workers,
        collate_fn=_only if aspect_ratio_grouping else collate_fn,
        worker_init_fn=worker_init_reset_seed,
        generator=generator,
        **kwargs,
    )
    if aspect_ratio_grouping:
        return AspectRatioGroupedDataset(loader, batch_size, collate_fn)
    return loader


def _test_loader_from_config(
    cfg: CfgNode, dataset_name: str | Sequence[str], mapper: Mapper | None = None
) -> dict[str, Any]:
    if mapper is None:
        raise _no_mapper("build_detection_test_loader")
    names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
    return {
        "dataset": _load_records(names, filter_empty=False),
        "mapper": mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Sequence[Any] | Dataset[Any],
    *,
    mapper: Mapper | None,
    sampler: Sampler[int] | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """Loader that gives every record once, over all processes, in order.

    Called as `build_detection_test_loader(cfg, name, mapper=...)` it loads the named data set (or
    several, joined); any argument below may be given beside `cfg`.

    Args:
        dataset: a list of records, or a map-style data set.
        mapper: turns a record into what the model gets. None in its place: records stay as they
            are.
        sampler: which records; by default `InferenceSampler`, a share for each process.
        batch_size: records in a batch of one process; the last one may be smaller.
        num_workers: worker processes that load data; 0: none, this process does.
        collate_fn: makes a batch of a list of mapped records; by default the list is the batch.

    Raises:
        DatasetError: the data set is empty or not registered; on access, the mapper returned None.
        TypeError: with a config, no mapper was given.
    """
    mapped = _as_dataset(dataset, mapper, replace_missing=False)
    return DataLoader(
        mapped,
        batch_size=batch_size,
        sampler=InferenceSampler(_length(mapped)) if sampler is None else sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
        worker_init_fn=worker_init_reset_seed,
    )
