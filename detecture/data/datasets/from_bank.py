"""Data sets composed from a bank of textures, for training only."""

from typing import Any

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.datasets.synthetic import ProceduralRecords

MOSAICS = ProceduralRecords("synthetic_mosaics", seed=4, length=10_000_000)
SWATCHES = ProceduralRecords("synthetic_swatches", seed=5, length=10_000_000)


def register_from_bank() -> None:
    """Register `synthetic_mosaics` and `synthetic_swatches`; repeating it is harmless."""
    for records, mapper in ((MOSAICS, "MosaicMapper"), (SWATCHES, "SwatchMapper")):
        loader: Any = records
        if records.name not in DatasetCatalog.list():
            DatasetCatalog.register(records.name, loader)
        MetadataCatalog.get(records.name).set(
            k_regime="autonomous",
            subject="",
            evaluator_type="texture",
            mapper=mapper,
            seed=records.seed,
        )
