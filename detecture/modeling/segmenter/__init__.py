"""SAM 3 behind one interface: encode an image once, then prompt it many times."""

from detecture.modeling.segmenter.build import SEGMENTER_REGISTRY, build_segmenter
from detecture.modeling.segmenter.features import ImageFeatures
from detecture.modeling.segmenter.interface import Segmenter
from detecture.modeling.segmenter.proposals import Proposals
from detecture.modeling.segmenter.sam3_meta import Sam3Meta
from detecture.modeling.segmenter.sam3_transformers import Sam3Transformers

__all__ = [
    "SEGMENTER_REGISTRY",
    "ImageFeatures",
    "Proposals",
    "Sam3Meta",
    "Sam3Transformers",
    "Segmenter",
    "build_segmenter",
]
