"""The procedural data sets of open-vocabulary segmentation: every image has names of its own."""

from typing import Any

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.datasets.synthetic import ProceduralRecords

OPEN_TRAIN = ProceduralRecords("synthetic_open_train", seed=7, length=10_000_000)
OPEN_VAL = ProceduralRecords("synthetic_open_val", seed=8, length=500)


def register_open_vocabulary() -> None:
    """Register `synthetic_open_train` and `synthetic_open_val`; again does no harm."""
    for records in (OPEN_TRAIN, OPEN_VAL):
        loader: Any = records
        if records.name not in DatasetCatalog.list():
            DatasetCatalog.register(records.name, loader)
        MetadataCatalog.get(records.name).set(
            k_regime="autonomous",
            subject="",
            evaluator_type="texture",
            mapper="OpenVocabularyMapper",
            seed=records.seed,
        )
