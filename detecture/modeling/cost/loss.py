"""The loss of open-vocabulary segmentation: each class against all pixels, by itself.

Legend: B images, T classes, g side of the logits, H, W size of the labels.
"""

from torch import Tensor
from torch.nn import functional


def semantic_loss_sum(
    logits_BTgg: Tensor, labels_BHW: Tensor, ignore_value: int, ignore: str
) -> Tensor:
    """Binary cross-entropy of all classes and pixels, summed, a scalar.

    CAT-Seg: targets are 1 for the label's class, 0 else. A pixel without a label is 0 for every
    class (`negative`, as published) or does not count (`mask`). What to divide by is `loss_count`.

    Args:
        logits_BTgg: enlarged to the labels, bilinear, corners not aligned.
        labels_BHW: int64 class numbers, and `ignore_value`.
        ignore_value: of pixels without a label.
        ignore: what those are.
    """
    size = labels_BHW.shape[-2:]
    logits_BTHW = functional.interpolate(logits_BTgg.float(), size, mode="bilinear")
    valid_BHW = labels_BHW != ignore_value
    index_B1HW = labels_BHW.masked_fill(~valid_BHW, 0)[:, None]
    # softplus(x) - x y, so that no map of ones and zeros for each class is made.
    of_label_BHW = logits_BTHW.gather(1, index_B1HW)[:, 0]
    positive = (of_label_BHW * valid_BHW).sum()
    negative_BHW = functional.softplus(logits_BTHW).sum(dim=1)
    if ignore == "mask":
        negative_BHW = negative_BHW * valid_BHW
    return negative_BHW.sum() - positive


def loss_count(labels_BHW: Tensor, ignore_value: int, ignore: str) -> int:
    """Pixels that count in `semantic_loss_sum` of labels (B,H,W)."""
    return int((labels_BHW != ignore_value).sum()) if ignore == "mask" else labels_BHW.numel()
