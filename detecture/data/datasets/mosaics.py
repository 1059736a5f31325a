"""The data set `synthetic_mosaics`: pictures without words, composed from a bank of textures."""

from typing import Any

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.datasets.synthetic import ProceduralRecords

MOSAICS = ProceduralRecords("synthetic_mosaics", seed=4, length=10_000_000)


def register_mosaics() -> None:
    """Register `synthetic_mosaics`; again does no harm."""
    loader: Any = MOSAICS
    if MOSAICS.name not in DatasetCatalog.list():
        DatasetCatalog.register(MOSAICS.name, loader)
    MetadataCatalog.get(MOSAICS.name).set(
        k_regime="autonomous",
        subject="",
        evaluator_type="texture",
        mapper="MosaicMapper",
        seed=MOSAICS.seed,
    )
