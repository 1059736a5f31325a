"""Where images and their annotations come from: one module for each layout of files."""

from detecture.miner.sources.ade20k import Ade20k
from detecture.miner.sources.bsds500 import Bsds500
from detecture.miner.sources.coco import Coco
from detecture.miner.sources.folder import Folder
from detecture.miner.sources.pascal_context import PascalContext
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    Source,
    build_source,
    image_path,
    mined_items,
)
from detecture.miner.sources.rwtd import Rwtd
from detecture.miner.sources.sa1b import Sa1b
from detecture.miner.sources.textured_ade20k import TexturedAde20k

__all__ = [
    "MINER_SOURCE_REGISTRY",
    "Ade20k",
    "Bsds500",
    "Coco",
    "Folder",
    "PascalContext",
    "Rwtd",
    "Sa1b",
    "Source",
    "TexturedAde20k",
    "build_source",
    "image_path",
    "mined_items",
]
