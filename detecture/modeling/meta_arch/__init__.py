"""Registered methods, one file each. Importing this package registers them all."""

from detecture.modeling.meta_arch.detecture import Detecture
from detecture.modeling.meta_arch.floors import HalfSplit, OneRegion
from detecture.modeling.meta_arch.texture_clusters import TextureClusters

__all__ = ["Detecture", "HalfSplit", "OneRegion", "TextureClusters"]
