"""Loaders of data sets: Detectron2's builders with each data set's own mapper."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from fvcore.common.config import CfgNode
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from detecture.d2 import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    comm,
)
from detecture.data.datasets.bsds500 import has_segmentations
from detecture.data.datasets.register import load_registered, load_test_records
from detecture.data.mapper import build_mapper
from detecture.data.training_stream import StreamDataset, StreamSampler
from detecture.errors import ConfigError, DatasetError
from detecture.jobs.signals import LoaderWorker

Mapper = Callable[[dict[str, Any]], dict[str, Any] | None]


def build_test_loader(
    cfg: CfgNode, dataset_name: str, skip_ids: Collection[str] = frozenset()
) -> DataLoader[Any]:
    """Loader that yields every image of a data set once, as a list of one mapped dict.

    Args:
        cfg: the config.
        dataset_name: a registered data set.
        skip_ids: image ids to leave out, such as those that an interrupted run has finished.

    Raises:
        DatasetError: the data set is unknown or cannot be loaded.
        ConfigError: its mapper is unknown, or the config does not go with it.
    """
    all_records = load_test_records(dataset_name, cfg.TEST.LIMIT)
    records = [r for r in all_records if r["image_id"] not in skip_ids]
    mapper = _mapper_of(cfg, dataset_name, is_train=False)
    if not records:  # Detectron2's InferenceSampler refuses to be empty
        nothing: Any = []
        return DataLoader(nothing, collate_fn=_as_list)
    loader: DataLoader[Any] = build_detection_test_loader(
        records, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS, collate_fn=_as_list
    )
    loader.worker_init_fn = LoaderWorker(loader.worker_init_fn)
    return loader


def build_train_loader(
    cfg: CfgNode,
    *,
    sampler: Sampler[int] | None = None,
    total_batch_size: int | None = None,
) -> DataLoader[Any]:
    """Endless loader of lists of mapped dicts from all of `DATASETS.TRAIN`, joined in that order.

    By default it reads the stream of `detecture.data.training_stream`: which samples come, and how
    they are augmented, follows from the seed alone, whatever the number of processes and workers.
    `stream_of(loader)` returns the sampler, to start at another iteration.

    Args:
        cfg: the config. A negative SEED is drawn anew, and agreed on by all processes.
        sampler: record indices in a custom order, in place of the stream; augmentation then draws
            from torch's generator in its current state.
        total_batch_size: records in one batch over all processes; by default that of one
            micro-batch, `SOLVER.IMS_PER_BATCH / SOLVER.ACCUMULATION`.

    Raises:
        ConfigError: `DATASETS.TRAIN` is empty, a mapper is unknown, or the batch cannot be split.
        DatasetError: a data set is unknown, cannot be loaded, or is for evaluation alone.
    """
    names = tuple(cfg.DATASETS.TRAIN)
    if not names:
        raise ConfigError("DATASETS.TRAIN is empty; name at least one data set to train on")
    for name in filter(has_segmentations, names):
        raise DatasetError(
            f"DATASETS.TRAIN: {name} has the regions of several people for each image, without "
            "descriptions; it is for evaluation alone, so name it in DATASETS.TEST"
        )
    records = _tag(names)
    mapper = _MapperByDataset({name: _mapper_of(cfg, name, is_train=True) for name in names})
    accumulation, effective = cfg.SOLVER.ACCUMULATION, cfg.SOLVER.IMS_PER_BATCH
    if total_batch_size is not None:
        accumulation, effective = 1, total_batch_size
    dataset: list[Any] | Dataset[Any] = records
    if sampler is None:
        size = len(records)
        seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        world = (comm.get_rank(), comm.get_world_size())
        sampler = StreamSampler(size, seed, effective, accumulation, *world)
        # The stream maps by itself: Detectron2's own way to replace a broken record depends on
        # what a worker has seen before.
        dataset = StreamDataset(records, mapper, sampler)
    loader: Any = build_detection_train_loader(
        dataset,
        mapper=None if isinstance(dataset, StreamDataset) else _GivesUp(mapper, len(records)),
        sampler=sampler,
        total_batch_size=effective // accumulation,
        aspect_ratio_grouping=False,  # all training images have one size
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_as_list,
    )
    loader.worker_init_fn = LoaderWorker(getattr(loader, "worker_init_fn", None))
    # Versions of Detectron2 differ in where a loader keeps its sampler.
    loader.stream = sampler
    return loader


def stream_of(loader: Any) -> StreamSampler | None:
    """The stream that a training loader reads; None if it reads something else."""
    sampler = getattr(loader, "stream", None)
    return sampler if isinstance(sampler, StreamSampler) else None


def _tag(names: tuple[str, ...]) -> list[Any] | ConcatDataset[Any]:
    """(data set name, record) pairs of all data sets, joined.

    A list, which the loader packs into shared memory; but if a data set makes its records on the
    fly, a lazy sequence that does not make them all.
    """
    parts = [(name, load_registered(name)) for name in names]
    if all(isinstance(records, list) for _, records in parts):
        return [(name, record) for name, records in parts for record in records]
    return ConcatDataset([_Tagged(name, records) for name, records in parts])


class _Tagged(Dataset[tuple[str, dict[str, Any]]]):
    """(data set name, record) pairs of one data set, made on request."""

    def __init__(self, name: str, records: Sequence[dict[str, Any]]) -> None:
        self._name = name
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[str, dict[str, Any]]:
        return self._name, self._records[index]


class _MapperByDataset:
    """Maps (data set name, record) pairs, each with its data set's mapper."""

    def __init__(self, mappers: dict[str, Mapper]) -> None:
        self._mappers = mappers

    def __call__(self, tagged: tuple[str, dict[str, Any]]) -> dict[str, Any] | None:
        name, record = tagged
        return self._mappers[name](record)


class _GivesUp:
    """A mapper of training records that fails with a clear message if no record is usable.

    Detectron2 takes another record for each one left out, and in the end fails in its own way.

    Raises:
        DatasetError: the mapper left out as many records in a row as there are.
    """

    def __init__(self, mapper: _MapperByDataset, records: int) -> None:
        self._mapper = mapper
        self._records = records
        self._left_out = 0

    def __call__(self, tagged: tuple[str, dict[str, Any]]) -> dict[str, Any] | None:
        mapped = self._mapper(tagged)
        self._left_out = 0 if mapped is not None else self._left_out + 1
        if self._left_out >= self._records:
            raise DatasetError(
                f"none of the {self._records} training records can be used; see the warnings above"
            )
        return mapped


def _mapper_of(cfg: CfgNode, dataset_name: str, is_train: bool) -> Mapper:
    metadata = MetadataCatalog.get(dataset_name)
    mapper: Mapper = build_mapper(
        cfg, metadata.get("mapper", "TextureMapper"), is_train, dataset_name
    )
    return mapper


def _as_list(batch: list[Any]) -> list[Any]:
    """A batch stays a list: images differ in size."""
    return batch
