"""The guided filter (He et al. 2010): smooths scores, but not over the edges of an image.

Legend: K planes of scores, h, w size of the image.
"""

from torch import Tensor
from torch.nn import functional


def guided_filter(guide_1hw: Tensor, scores_Khw: Tensor, radius: int, epsilon: float) -> Tensor:
    """Filter scores along the edges of a grey image.

    Args:
        guide_1hw: the image, 0..1.
        scores_Khw: what is filtered, plane by plane.
        radius: of the square window, in pixels.
        epsilon: variance of the image below which a window counts as flat.

    Returns:
        (K,h,w).
    """

    side = 2 * radius + 1

    def mean(planes: Tensor) -> Tensor:
        """Mean over the window around each pixel: (K,h,w) to (K,h,w)."""
        # One direction after the other: the cost grows with the radius and not with its square.
        for kernel, pad in (((side, 1), (radius, 0)), ((1, side), (0, radius))):
            planes = functional.avg_pool2d(planes, kernel, 1, pad, count_include_pad=False)
        return planes

    mean_guide, mean_scores = mean(guide_1hw), mean(scores_Khw)
    variance = mean(guide_1hw * guide_1hw) - mean_guide * mean_guide
    covariance = mean(guide_1hw * scores_Khw) - mean_guide * mean_scores
    slope = covariance / (variance + epsilon)
    offset = mean_scores - slope * mean_guide
    filtered: Tensor = mean(slope) * guide_1hw + mean(offset)
    return filtered
