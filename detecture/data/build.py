"""Loaders of texture data sets: Detectron2's builders with each data set's own mapper."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from fvcore.common.config import CfgNode
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from detecture.d2 import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detecture.data.datasets.register import load_registered
from detecture.data.mapper import build_mapper
from detecture.errors import ConfigError

Mapper = Callable[[dict[str, Any]], dict[str, Any] | None]


def build_texture_test_loader(
    cfg: CfgNode, dataset_name: str, skip_ids: Collection[str] = frozenset()
) -> DataLoader[Any]:
    """Loader that gives every picture of a data set once, as a list of one mapped dict.

    Args:
        cfg: the config.
        dataset_name: a registered data set.
        skip_ids: image ids to leave out, such as those that a broken-off run has finished.

    Raises:
        DatasetError: the data set is unknown or cannot be loaded.
        ConfigError: its mapper is unknown, or the config does not go with it.
    """
    records = [r for r in load_registered(dataset_name) if r["image_id"] not in skip_ids]
    mapper = _mapper_of(cfg, dataset_name, is_train=False)
    if not records:  # Detectron2's InferenceSampler refuses to be empty
        nothing: Any = []
        return DataLoader(nothing, collate_fn=_as_list)
    return build_detection_test_loader(
        records, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS, collate_fn=_as_list
    )


def build_texture_train_loader(
    cfg: CfgNode,
    *,
    sampler: Sampler[int] | None = None,
    total_batch_size: int | None = None,
) -> DataLoader[Any]:
    """Endless loader of lists of mapped dicts from all of `DATASETS.TRAIN`, joined in that order.

    Args:
        cfg: the config.
        sampler: which records, in which order; by default Detectron2's `TrainingSampler`.
        total_batch_size: records that one batch of all processes has; by default
            `SOLVER.IMS_PER_BATCH`. With gradient accumulation it is that of one micro-batch.

    Raises:
        ConfigError: `DATASETS.TRAIN` is empty, or a mapper is unknown.
        DatasetError: a data set is unknown or cannot be loaded.
    """
    names = tuple(cfg.DATASETS.TRAIN)
    if not names:
        raise ConfigError("DATASETS.TRAIN is empty; name at least one data set to train on")
    return build_detection_train_loader(
        _tag(names),
        mapper=_MapperByDataset({name: _mapper_of(cfg, name, is_train=True) for name in names}),
        sampler=sampler,
        total_batch_size=total_batch_size or cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,  # all training pictures have one size
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_as_list,
    )


def _tag(names: tuple[str, ...]) -> list[Any] | Dataset[Any]:
    """(data set name, record) pairs of all data sets, joined.

    A list, which the loader packs into shared memory; but where a data set makes its records on the
    fly, nothing that would make them all.
    """
    parts = [(name, load_registered(name)) for name in names]
    if all(isinstance(records, list) for _, records in parts):
        return [(name, record) for name, records in parts for record in records]
    return ConcatDataset([_Tagged(name, records) for name, records in parts])


class _Tagged(Dataset[tuple[str, dict[str, Any]]]):
    """(data set name, record) pairs of one data set, made when they are asked for."""

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


def _mapper_of(cfg: CfgNode, dataset_name: str, is_train: bool) -> Mapper:
    metadata = MetadataCatalog.get(dataset_name)
    mapper: Mapper = build_mapper(
        cfg, metadata.get("mapper", "TextureMapper"), is_train, dataset_name
    )
    return mapper


def _as_list(batch: list[Any]) -> list[Any]:
    """A batch stays a list: pictures differ in size."""
    return batch
