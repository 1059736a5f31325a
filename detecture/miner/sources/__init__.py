"""Where images and their annotations come from: one module for each layout of files."""

from detecture.miner.sources.ade20k import Ade20k
from detecture.miner.sources.folder import Folder
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    Source,
    build_source,
    image_path,
    mined_items,
)
from detecture.miner.sources.textured_ade20k import TexturedAde20k

__all__ = [
    "MINER_SOURCE_REGISTRY",
    "Ade20k",
    "Folder",
    "Source",
    "TexturedAde20k",
    "build_source",
    "image_path",
    "mined_items",
]
