"""The answer of a semantic model.

Legend: T classes, H, W size that is asked for.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detecture.errors import PredictionError
from detecture.modeling.cost.answer import Seen

logger = logging.getLogger(__name__)

BACKGROUND = "background"
"""What the class of pixels without one is called."""

_LARGE = 10**9  # bytes


def _say_size(classes: int, size: Sequence[int], most_bytes: int | None = None) -> None:
    """Say in the log what `sem_seg` takes, before it is made.

    Args:
        classes: the background's included.
        size: height and width.
        most_bytes: that it may take; None: any number.

    Raises:
        PredictionError: it takes more.
    """
    takes = 4 * classes * size[0] * size[1]
    shape = f"{classes} classes at {size[0]} x {size[1]} (H x W)"
    text = f"sem_seg of {shape} takes {takes / 1e6:,.2f} MB"
    if most_bytes is not None and takes > most_bytes:
        raise PredictionError(
            f"{text}, and TEST.SEMANTIC.MAX_SCORE_GB is {most_bytes / 1e9:g}; label_map and score "
            "have the best class of each pixel and take none of it. Ask for fewer classes, shrink "
            "the image, or set the key higher"
        )
    logger.log(logging.WARNING if takes >= _LARGE else logging.INFO, "%s", text)


class SemanticOutput(dict[str, Any]):
    """The answer for one image; its keys are those of `SemanticEntries`.

    `sem_seg` is made when it is first read, as evaluators of Detectron2 do.
    """

    def __init__(
        self,
        seen: Seen,
        classes: Sequence[str],
        threshold: float = 0.0,
        most_bytes: int | None = None,
    ) -> None:
        """Find the label map.

        Args:
            seen: of the image.
            classes: T names.
            threshold: a pixel with a lower score is background, one more class; 0: there is none.
            most_bytes: a larger `sem_seg` is refused; None: never.
        """
        label_map_HW, score_HW = seen.best()
        names = list(classes)
        if threshold:
            label_map_HW[score_HW < threshold] = len(names)
            names.append(BACKGROUND)
        super().__init__(
            label_map=label_map_HW,
            score=score_HW,
            classes=names,
            background_threshold=threshold,
            status="ok",
        )
        self._seen, self._threshold, self._most_bytes = seen, threshold, most_bytes

    def __missing__(self, key: str) -> Tensor:
        if key != "sem_seg":
            raise KeyError(key)
        _say_size(len(self["classes"]), self._seen.size, self._most_bytes)
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
