"""The boundary loss of MH-FPN: where classes meet, the masks must change.

Published: binary cross-entropy at two scales between the Sobel magnitude of the sigmoids and that
of the map of class numbers, each divided by its greatest value, so that class 5 beside 200 is a
stronger edge than beside 6, pixels without a label are the strongest, and an even image is all
edge.
Here: an edge is where two neighbours have different labels, both known; the prediction is the
greatest change of any class between them; pairs with an unknown one do not count. Binary
cross-entropy, edges and the rest with half of the weight each, as edges are few.

Legend: B images, T classes, g side of the logits, H, W size of the labels.
"""

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-6


def boundary_loss(logits_BTgg: Tensor, labels_BHW: Tensor, ignore_value: int) -> Tensor:
    """A scalar; 0, with a gradient of 0, where no pair of neighbours is known.

    Args:
        logits_BTgg: of the masks.
        labels_BHW: int64 class numbers, and `ignore_value`.
        ignore_value: of pixels without a label.
    """
    size = logits_BTgg.shape[-2:]
    labels_Bgg = functional.interpolate(labels_BHW[:, None].float(), size, mode="nearest")
    labels_Bgg = labels_Bgg[:, 0].long()
    scores_BTgg = logits_BTgg.float().sigmoid()
    changes, edges = [], []
    for axis in (-1, -2):
        count = labels_Bgg.shape[axis] - 1
        here, there = labels_Bgg.narrow(axis, 0, count), labels_Bgg.narrow(axis, 1, count)
        known = (here != ignore_value) & (there != ignore_value)
        change = scores_BTgg.narrow(axis, 1, count) - scores_BTgg.narrow(axis, 0, count)
        changes.append(change.abs().amax(dim=1)[known])
        edges.append((here != there)[known])
    change_M, is_edge_M = torch.cat(changes), torch.cat(edges)
    sums = []
    for chosen, target in ((is_edge_M, 1.0), (~is_edge_M, 0.0)):
        found = change_M[chosen].clamp(_TINY, 1 - _TINY)
        if len(found):
            sums.append(functional.binary_cross_entropy(found, torch.full_like(found, target)))
    if not sums:
        return 0.0 * logits_BTgg.sum()
    return torch.stack(sums).mean()
