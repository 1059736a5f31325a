"""The procedural data sets of open-vocabulary segmentation: every image has its own names."""

from typing import Any

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.datasets.synthetic import ProceduralRecords
from detecture.data.synthetic.combinations import combination_names

OPEN_TRAIN = ProceduralRecords("synthetic_open_train", seed=7, length=10_000_000)
OPEN_VAL = ProceduralRecords("synthetic_open_val", seed=8, length=500)
COMBINATIONS_TRAIN = ProceduralRecords("synthetic_combinations_train", seed=9, length=10_000_000)
COMBINATIONS_HELD_OUT = ProceduralRecords("synthetic_combinations_held_out", seed=10, length=200)


def register_open_vocabulary() -> None:
    """Register `synthetic_open_train` and `_val`, `synthetic_combinations_train` and `_held_out`.

    Repeating it is harmless.
    """
    for records in (OPEN_TRAIN, OPEN_VAL):
        _register(records, "OpenVocabularyMapper")
    for records, held_out in ((COMBINATIONS_TRAIN, False), (COMBINATIONS_HELD_OUT, True)):
        names = combination_names(held_out)
        _register(records, "CombinationMapper", stuff_classes=names, held_out=held_out)


def _register(records: ProceduralRecords, mapper: str, **metadata: Any) -> None:
    loader: Any = records
    if records.name not in DatasetCatalog.list():
        DatasetCatalog.register(records.name, loader)
    MetadataCatalog.get(records.name).set(
        k_regime="autonomous",
        subject="",
        evaluator_type="names",  # tools/evaluate_names.py and tools/ablate_ahs_seg.py measure it
        mapper=mapper,
        seed=records.seed,
        **metadata,
    )
