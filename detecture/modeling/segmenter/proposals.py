"""What the detector of a segmenter finds: single objects, as masks, scores and boxes.

Legend: N prompts, Q queries of the detector, h, w size of the finest level.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Proposals:
    """Objects under each of N prompts, in the order of the detector's queries.

    Attributes:
        mask_logits: (N,Q,h,w), positive where the object is.
        scores: (N,Q) in 0..1: how surely there is an object that the prompt means; the probability
            of this query times that of the prompt being in the image at all.
        boxes: (N,Q,4), left, top, right, bottom as shares of the image's width and height.
    """

    mask_logits: Tensor
    scores: Tensor
    boxes: Tensor
