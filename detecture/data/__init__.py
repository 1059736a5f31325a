"""Data: images and masks, data sets by name, mappers and loaders.

Importing this package registers the built-in data sets and mappers.
"""

from detecture.data.bank_mappers import MosaicMapper
from detecture.data.build import build_test_loader, build_train_loader
from detecture.data.datasets.bsds500 import register_bsds500, register_segmentations
from detecture.data.datasets.builtin import register_builtin_datasets
from detecture.data.datasets.from_bank import register_from_bank
from detecture.data.datasets.open_vocabulary import register_open_vocabulary
from detecture.data.datasets.register import (
    known_datasets,
    load_registered,
    load_test_records,
    register_dataset_json,
    register_texture_dataset,
    require_registered,
)
from detecture.data.datasets.semantic import (
    register_semantic_dataset,
    register_semantic_folder,
    register_semantic_sets,
)
from detecture.data.datasets.stand_ins import register_stand_ins
from detecture.data.datasets.synthetic import register_synthetic_datasets
from detecture.data.ground_truth import GroundTruth, load_ground_truth
from detecture.data.image_io import image_size, read_image, read_mask
from detecture.data.k_hint import KHint, resolve_k_hint
from detecture.data.mapper import DATASET_MAPPER_REGISTRY, SyntheticMapper, TextureMapper
from detecture.data.open_mapper import OpenVocabularyMapper
from detecture.data.semantic_mapper import SemanticMapper

__all__ = [
    "DATASET_MAPPER_REGISTRY",
    "GroundTruth",
    "KHint",
    "MosaicMapper",
    "OpenVocabularyMapper",
    "SemanticMapper",
    "SyntheticMapper",
    "TextureMapper",
    "build_test_loader",
    "build_train_loader",
    "image_size",
    "known_datasets",
    "load_ground_truth",
    "load_registered",
    "load_test_records",
    "read_image",
    "read_mask",
    "register_dataset_json",
    "register_from_bank",
    "register_open_vocabulary",
    "register_segmentations",
    "register_semantic_dataset",
    "register_semantic_folder",
    "register_stand_ins",
    "register_synthetic_datasets",
    "register_texture_dataset",
    "require_registered",
    "resolve_k_hint",
]

register_builtin_datasets()
register_bsds500()
register_synthetic_datasets()
register_from_bank()
register_open_vocabulary()
register_stand_ins()
register_semantic_sets()
