"""SAM 2 for single images, by transformers: building it, and its automatic masks."""

from detecture.modeling.sam2.build import build_processor, build_sam2
from detecture.modeling.sam2.mask_generation import (
    AutomaticMasks,
    generate_masks,
)

__all__ = [
    "AutomaticMasks",
    "build_processor",
    "build_sam2",
    "generate_masks",
]
