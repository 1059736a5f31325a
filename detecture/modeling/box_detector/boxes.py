"""Boxes that a detector found, and what is done to them before they are used.

Legend: R boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """Boxes of one image, the best first.

    Attributes:
        boxes_R4: float32, left, top, right and bottom in pixels of the image.
        scores_R: float32, descending.
        labels: of each box, the words of the phrase that it goes with; may be empty.
        size: height and width of the image in pixels.
    """

    boxes_R4: Tensor
    scores_R: Tensor
    labels: list[str]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def best(self, count: int) -> "Detections":
        """The first `count` of them, or all where there are fewer."""
        return Detections(
            self.boxes_R4[:count], self.scores_R[:count], self.labels[:count], self.size
        )

    def shares(self) -> Tensor:
        """The boxes (R,4) as centre x, centre y, width and height, in shares of the image."""
        height, width = self.size
        left, top, right, bottom = self.boxes_R4.unbind(dim=1)
        return torch.stack(
            [
                (left + right) / (2 * width),
                (top + bottom) / (2 * height),
                (right - left) / width,
                (bottom - top) / height,
            ],
            dim=1,
        )


def ranked_detections(
    boxes_R4: Tensor,
    scores_R: Tensor,
    labels: Sequence[str],
    size: tuple[int, int],
    nms_iou: float = 1.0,
) -> Detections:
    """Clip boxes to the image, drop those without area, rank them, and drop near-duplicates.

    Args:
        boxes_R4: left, top, right, bottom in pixels of the image, in any order.
        scores_R: their scores.
        labels: their texts.
        size: height and width of the image in pixels.
        nms_iou: a box whose IoU with a better one is greater is dropped, whatever its label
            (non-maximum suppression); 1 keeps all, duplicates too.
    """
    height, width = size
    boxes_R4, scores_R = boxes_R4.float(), scores_R.float()
    most_4 = boxes_R4.new_tensor([width, height, width, height])
    boxes_R4 = torch.minimum(boxes_R4.clamp(min=0.0), most_4)
    # A box that is not a number fails this too.
    real_R = (boxes_R4[:, 2:] > boxes_R4[:, :2]).all(dim=1)
    order = torch.argsort(scores_R, descending=True, stable=True)
    order = order[real_R[order]]
    if nms_iou < 1.0:
        # Here, because importing torchvision takes longer than importing torch.
        from torchvision.ops import nms

        order = order[nms(boxes_R4[order], scores_R[order], nms_iou)]
    return Detections(
        boxes_R4[order], scores_R[order], [labels[index] for index in order.tolist()], size
    )
