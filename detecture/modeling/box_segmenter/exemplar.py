"""A box as an example of a concept: SAM 3 marks all that is like what the box holds.

Legend as in interface.py.
"""

import torch
from torch import Tensor

from detecture.modeling.box_segmenter.interface import BoxSegmenter
from detecture.modeling.segmenter import ImageFeatures, Segmenter


class BoxExemplar(BoxSegmenter):
    """SAM 3's geometry encoder and semantic head: each box alone is a prompt.

    As in the published Grounded SAM 3, where no text goes with the box. The mask is not bound to
    the box: it is that of a concept, wherever in the image that is.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        """Wrap a segmenter that was built with its detector."""
        super().__init__()
        self.segmenter = segmenter.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def encode_image(self, image: Tensor) -> ImageFeatures:
        """Features of an image, uint8 (3,H,W), see `BoxSegmenter`."""
        return self.segmenter.encode_image(self.segmenter.preprocess([image]))

    @torch.no_grad()
    def logits(self, encoding: ImageFeatures, boxes_R4: Tensor) -> Tensor:
        """Logits (R,h,w), see `BoxSegmenter`; h and w are those of the finest level."""
        image_index_R = torch.zeros(len(boxes_R4), dtype=torch.int64)
        prompt = self.segmenter.exemplar_prompt(encoding, image_index_R, boxes_R4[:, None])
        return self.segmenter.semantic_logits(encoding, image_index_R, *prompt)[:, 0].float()
