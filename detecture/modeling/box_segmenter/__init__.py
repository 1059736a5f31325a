"""From boxes to masks, by SAM 3: encode an image once, then ask for any number of boxes."""

from detecture.modeling.box_segmenter.box_prompt import BoxPrompt
from detecture.modeling.box_segmenter.exemplar import BoxExemplar
from detecture.modeling.box_segmenter.interface import BoxSegmenter

__all__ = ["BoxExemplar", "BoxPrompt", "BoxSegmenter"]
