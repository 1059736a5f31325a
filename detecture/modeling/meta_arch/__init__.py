"""Registered methods, one file each. Importing this package registers them all."""

from detecture.modeling.meta_arch.ahs_seg import AHSSeg
from detecture.modeling.meta_arch.cat_seg import CATSeg
from detecture.modeling.meta_arch.describe_then_segment import DescribeThenSegment
from detecture.modeling.meta_arch.detecture import Detecture
from detecture.modeling.meta_arch.floors import HalfSplit, OneRegion
from detecture.modeling.meta_arch.grounded_sam3 import GroundedSam3
from detecture.modeling.meta_arch.name_alignment import NameAlignment
from detecture.modeling.meta_arch.region_describer import RegionDescriber
from detecture.modeling.meta_arch.sa2va import Sa2VA
from detecture.modeling.meta_arch.sam3_text import Sam3Text
from detecture.modeling.meta_arch.texture_classifier import TextureClassifier
from detecture.modeling.meta_arch.texture_clusters import TextureClusters
from detecture.modeling.meta_arch.texture_grouping import TextureGrouping
from detecture.modeling.meta_arch.texture_sam import TextureSam

__all__ = [
    "AHSSeg",
    "CATSeg",
    "DescribeThenSegment",
    "Detecture",
    "GroundedSam3",
    "HalfSplit",
    "NameAlignment",
    "OneRegion",
    "RegionDescriber",
    "Sa2VA",
    "Sam3Text",
    "TextureClassifier",
    "TextureClusters",
    "TextureGrouping",
    "TextureSam",
]
