"""Boxes of what a phrase names, by Grounding DINO."""

from detecture.modeling.box_detector.boxes import Detections
from detecture.modeling.box_detector.grounding_dino import GroundingDino
from detecture.modeling.box_detector.phrase import normalize_phrase

__all__ = ["Detections", "GroundingDino", "normalize_phrase"]
