"""From the masks that a baseline found to the standard output, in the same way for all baselines.

Legend: R regions found, K regions answered, h, w size of the masks, H, W size asked for.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from detecture.data.k_hint import KHint

MISSING_LOGIT = -1.0e4
"""Score of a region that was due and not found: it wins no pixel."""

_PROBABILITY_SCALE = 5.0


def logits_of_probabilities(soft_RHW: Tensor) -> Tensor:
    """Scores 5 * (2p - 1) of soft or hard masks in 0..1: float32 (R,H,W).

    At p = 0.5 the score equals that of a dustbin at 0.

    Args:
        soft_RHW: float or bool.
    """
    return _PROBABILITY_SCALE * (2.0 * soft_RHW.float() - 1.0)


def resize_scores(scores_Rhw: Tensor, size: Sequence[int]) -> Tensor:
    """Scores (R,h,w), before any threshold, to (R,H,W): bilinear, float32, corners not aligned."""
    scores_Rhw = scores_Rhw.float()
    if tuple(scores_Rhw.shape[1:]) == tuple(size):
        return scores_Rhw
    if len(scores_Rhw) == 0:
        return scores_Rhw.new_zeros((0, *size))
    resized: Tensor = functional.interpolate(
        scores_Rhw[None], tuple(size), mode="bilinear", align_corners=False
    )[0]
    return resized


def smallest_first(logits_RHW: Tensor) -> list[int]:
    """Order in which overlapping hard masks keep the smaller one: by area, the smallest first.

    A pixel in two masks of the same score goes to the lower channel; with the largest first, as
    published, a nested mask would vanish.
    """
    areas_R = (logits_RHW >= 0).flatten(1).sum(dim=1)
    return [int(index) for index in torch.argsort(areas_R, stable=True)]


def without_duplicates(masks_RHW: Tensor, most_iou: float) -> list[int]:
    """Indices, in order, of the masks that overlap little with those kept before them.

    Args:
        masks_RHW: bool, best first.
        most_iou: a mask whose IoU with a kept one is greater is dropped; 1 keeps all.
    """
    flat_RN = masks_RHW.flatten(1).float()
    areas_R = flat_RN.sum(dim=1)
    kept: list[int] = []
    for index in range(len(flat_RN)):
        if kept:
            common = flat_RN[kept] @ flat_RN[index]
            union = areas_R[kept] + areas_R[index] - common
            if bool((common > most_iou * union).any()):
                continue
        kept.append(index)
    return kept


def output_from_regions(
    logits_RHW: Tensor, descriptions: Sequence[str], hint: KHint, dustbin_logit: float
) -> dict[str, Any]:
    """Standard output of a method that finds regions one by one, best first.

    Where the hint gives a number, that many regions are returned: the best ones, then empty ones if
    some are missing, so that a missing region is charged and not left out of the mean.

    Args:
        logits_RHW: float scores, above `dustbin_logit` where a region is.
        descriptions: R texts.
        hint: what the method was told about the number of regions.
        dustbin_logit: score of the dustbin.

    Returns:
        `sem_seg` (K+1,H,W) float32, `descriptions`, and `status`: `ok`, or `no_region` where
        nothing was found.

    Raises:
        ValueError: the counts of scores and texts differ.
    """
    if len(logits_RHW) != len(descriptions):
        raise ValueError(f"{len(logits_RHW)} masks and {len(descriptions)} descriptions")
    found = len(logits_RHW)
    count = found if hint.k is None else hint.k
    scores_KHW = logits_RHW[:count].float()
    missing = scores_KHW.new_full((count - len(scores_KHW), *logits_RHW.shape[1:]), MISSING_LOGIT)
    dustbin = scores_KHW.new_full((1, *logits_RHW.shape[1:]), dustbin_logit)
    return {
        "sem_seg": torch.cat([scores_KHW, missing, dustbin]),
        "descriptions": [*descriptions[:count], *[""] * len(missing)],
        "status": "ok" if found else "no_region",
    }
