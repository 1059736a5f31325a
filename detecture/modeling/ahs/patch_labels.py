"""Labels of patches, and means of the patches of a class.

Legend: B images, H, W size of the labels, G grid, E width of the features, T classes.
"""

import torch
from torch import Tensor
from torch.nn import functional


def patch_labels(labels_BHW: Tensor, grid: int) -> Tensor:
    """Label of each patch (B,G,G), that of its middle pixel, of int64 labels (B,H,W)."""
    size = (grid, grid)
    nearest = functional.interpolate(labels_BHW[:, None].float(), size, mode="nearest-exact")
    return nearest[:, 0].long()


def patch_purity(labels_BHW: Tensor, grid: int, ignore_value: int) -> tuple[Tensor, Tensor]:
    """Share of a patch's pixels that have the label of its middle, and where that is known.

    Args:
        labels_BHW: int64.
        grid: G.
        ignore_value: of pixels without a label.

    Returns:
        float (B,G,G) in 0..1, and bool (B,G,G).
    """
    middle_BGG = patch_labels(labels_BHW, grid)
    size = labels_BHW.shape[-2:]
    spread = functional.interpolate(middle_BGG[:, None].float(), size, mode="nearest-exact")
    same_BHW = (spread[:, 0].long() == labels_BHW).float()
    purity_BGG = functional.adaptive_avg_pool2d(same_BHW[:, None], grid)[:, 0]
    return purity_BGG, middle_BGG != ignore_value


def class_means(
    features_BEGG: Tensor, labels_BGG: Tensor, classes: int, ignore_value: int
) -> tuple[Tensor, Tensor]:
    """Mean feature (T,E) of the patches of each class, 0 where it has none, and their count (T,).

    Args:
        features_BEGG: of patches.
        labels_BGG: int64 class numbers, and `ignore_value`.
        classes: T.
        ignore_value: patches that do not count.
    """
    known = labels_BGG != ignore_value
    features_ME = features_BEGG.movedim(1, -1)[known]
    labels_M = labels_BGG[known]
    sums_TE = features_ME.new_zeros(classes, features_BEGG.shape[1])
    sums_TE = sums_TE.index_add(0, labels_M, features_ME)
    count_T = torch.bincount(labels_M, minlength=classes).to(features_ME.dtype)
    return sums_TE / count_T.clamp(min=1)[:, None], count_T
