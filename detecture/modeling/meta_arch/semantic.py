"""The answer of a semantic model.

Legend: T classes, H, W size that is asked for.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detecture.modeling.cost.answer import Seen

logger = logging.getLogger(__name__)

BACKGROUND = "background"
"""What the class of pixels without one is called."""

_LARGE = 1 << 30  # bytes


class SemanticOutput(dict[str, Any]):
    """The answer for one image.

    Keys:
        label_map: int16 (H,W), the class of each pixel; the last one is background where that is
            asked for.
        score: float (H,W), 0..1, of the best class.
        classes: names, in the order of the labels.
        status: `ok`.
        sem_seg: float (T,H,W), one score a class, whose argmax is the label map; made when it is
            first read, as evaluators of Detectron2 do.
    """

    def __init__(self, seen: Seen, classes: Sequence[str], threshold: float = 0.0) -> None:
        """Find the label map.

        Args:
            seen: of the image.
            classes: T names.
            threshold: a pixel with a lower score is background, one more class; 0: there is none.
        """
        label_map_HW, score_HW = seen.best()
        names = list(classes)
        if threshold:
            label_map_HW[score_HW < threshold] = len(names)
            names.append(BACKGROUND)
        super().__init__(label_map=label_map_HW, score=score_HW, classes=names, status="ok")
        self._seen, self._threshold = seen, threshold

    def __missing__(self, key: str) -> Tensor:
        if key != "sem_seg":
            raise KeyError(key)
        size = self._seen.bytes_of_dense()
        if size >= _LARGE:
            logger.warning(
                "sem_seg of %d classes at %d x %d takes %.1f GB; label_map has the best of them",
                *(self._seen.classes, *self._seen.size, size / 2**30),
            )
        scores_THW = self._seen.dense()
        if self._threshold:
            # A score of exactly the threshold is no background.
            below = math.nextafter(self._threshold, 0.0)
            plane = torch.full_like(scores_THW[:1], self._threshold)
            plane = torch.nextafter(plane, torch.full_like(plane, below - 1))
            scores_THW = torch.cat([scores_THW, plane])
        self["sem_seg"] = scores_THW
        return scores_THW

    def __contains__(self, key: object) -> bool:
        return key == "sem_seg" or super().__contains__(key)
