"""The interface of what turns boxes into masks.

Legend: R boxes, H, W size of an image, h, w size of masks.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class BoxSegmenter(nn.Module, ABC):
    """Frozen, and always in evaluation mode: SAM 3 has dropout, and none of this is trained."""

    def train(self, mode: bool = True) -> "BoxSegmenter":
        """As torch's, but it stays in evaluation mode."""
        return super().train(False)

    @abstractmethod
    def encode_image(self, image: Tensor) -> Any:
        """What does not depend on the boxes, of a uint8 RGB image (3,H,W)."""

    @abstractmethod
    def logits(self, encoding: Any, boxes_R4: Tensor) -> Tensor:
        """One mask for each box of the image that was encoded.

        Args:
            encoding: from `encode_image`.
            boxes_R4: centre x, centre y, width and height, in shares of the image; R > 0.

        Returns:
            Float32 logits (R,h,w) over the whole image, which is stretched to a square.
        """
