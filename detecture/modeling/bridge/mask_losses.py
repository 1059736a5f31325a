"""The mask losses (specification of the model, section 6), and the class scores of the slots.

Losses come as sums and counts: the trainer adds them up over processes and micro-batches before it
divides (`LOSS.NORMALIZER`).

Legend: B images, N active slots of all images, Q slots of one image (the dustbin first), h, w size
of the slots' logits, H, W size of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

DICE_SMOOTH = 1.0


@dataclass(frozen=True)
class MaskLossSums:
    """Sums of the two mask losses, and the counts to divide them by."""

    ce_sum: torch.Tensor
    """Scalar, in nats: over images, of the mean cross-entropy of a pixel."""
    ce_count: int
    """Number of images."""
    dice_sum: torch.Tensor
    """Scalar: over active slots, the dustbins included, of 1 - Dice."""
    dice_count: int
    """Number of active slots."""


def mask_loss_sums(
    slot_logits_Nhw: torch.Tensor,
    image_index_N: torch.Tensor,
    slot_index_N: torch.Tensor,
    sem_seg_BHW: torch.Tensor,
) -> MaskLossSums:
    """Cross-entropy over slots and soft Dice of a batch whose images differ in slot number.

    The logits are resized bilinearly to the ground truth's size first and set beside each other
    then: an unused slot's lowest value, mixed in by the resize, would overflow to NaN (the defect
    of the published code, specification section 7).

    Args:
        slot_logits_Nhw: (N,h,w) float logits of the active slots of all images, in any order.
            Computed in float32 at least, also under autocast.
        image_index_N: (N,) int64, the image that a slot belongs to.
        slot_index_N: (N,) int64, its number there: 0 dustbin, i texture i. The slots of an image
            with K textures are 0..K, each once.
        sem_seg_BHW: (B,H,W) integer ground truth: 0 dustbin, i texture i.

    Returns:
        The sums. Dice is 1 - (2*sum(p*t) + 1) / (sum(p) + sum(t) + 1), with p the softmax
        probability of the slot and t whether the pixel is its own.

    Raises:
        ValueError: shapes or indices do not go together, or an image's ground truth has a label
            that none of its slots stands for.
    """
    _check_shapes(slot_logits_Nhw, image_index_N, slot_index_N, sem_seg_BHW)
    sem_seg_BHW = sem_seg_BHW.long()
    batch, size = len(sem_seg_BHW), sem_seg_BHW.shape[1:]
    most_slots = _check_slots(image_index_N, slot_index_N, sem_seg_BHW)
    resized_NHW = _resize(slot_logits_Nhw, size)
    unused = torch.finfo(resized_NHW.dtype).min
    table_BQHW = resized_NHW.new_full((batch, most_slots, *size), unused)
    table_BQHW = table_BQHW.index_put((image_index_N, slot_index_N), resized_NHW)
    log_probs_BQHW = table_BQHW.log_softmax(dim=1)
    ce_B = -log_probs_BQHW.gather(1, sem_seg_BHW[:, None]).mean(dim=(1, 2, 3))

    probs_NHW = log_probs_BQHW[image_index_N, slot_index_N].exp()
    truth_NHW = sem_seg_BHW[image_index_N] == slot_index_N[:, None, None]
    common_N = (probs_NHW * truth_NHW).sum(dim=(1, 2))
    total_N = probs_NHW.sum(dim=(1, 2)) + truth_NHW.sum(dim=(1, 2))
    dice_N = 1.0 - (2.0 * common_N + DICE_SMOOTH) / (total_N + DICE_SMOOTH)
    return MaskLossSums(ce_B.sum(), batch, dice_N.sum(), len(slot_logits_Nhw))


def partition_scores(slot_logits_Qhw: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The standard output of a model from the active slots of one image.

    Args:
        slot_logits_Qhw: (K+1,h,w) float logits: the dustbin, then the K textures; K may be 0.
        size: H and W that are asked for.

    Returns:
        (K+1,H,W), float32 at least: the textures, then the dustbin; resized bilinearly.

    Raises:
        ValueError: not three dimensions, or no slot at all.
    """
    if slot_logits_Qhw.ndim != 3 or len(slot_logits_Qhw) == 0:
        raise ValueError(
            f"slot logits must be (K+1,h,w), the dustbin first, got {tuple(slot_logits_Qhw.shape)}"
        )
    return _resize(slot_logits_Qhw, size).roll(-1, dims=0)


def _resize(slot_logits_Nhw: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear to (N,H,W), in float32 at least."""
    wide = torch.promote_types(slot_logits_Nhw.dtype, torch.float32)
    logits_N1hw = slot_logits_Nhw.to(wide)[:, None]
    height, width = size
    resized = F.interpolate(logits_N1hw, (height, width), mode="bilinear", align_corners=False)
    return resized[:, 0]


def _check_shapes(
    slot_logits_Nhw: torch.Tensor,
    image_index_N: torch.Tensor,
    slot_index_N: torch.Tensor,
    sem_seg_BHW: torch.Tensor,
) -> None:
    count = len(slot_logits_Nhw)
    indexed = image_index_N.shape == slot_index_N.shape == (count,)
    if slot_logits_Nhw.ndim != 3 or sem_seg_BHW.ndim != 3 or not indexed:
        raise ValueError(
            f"slot logits {tuple(slot_logits_Nhw.shape)}, image and slot indices "
            f"{tuple(image_index_N.shape)} and {tuple(slot_index_N.shape)}, ground truth "
            f"{tuple(sem_seg_BHW.shape)}: they must be (N,h,w), (N,), (N,) and (B,H,W)"
        )
    if count == 0 or sem_seg_BHW.numel() == 0:
        raise ValueError(f"{count} slots, ground truth {tuple(sem_seg_BHW.shape)}: none to learn")


def _check_slots(
    image_index_N: torch.Tensor, slot_index_N: torch.Tensor, sem_seg_BHW: torch.Tensor
) -> int:
    """The largest number of slots of an image, if slots and labels go together."""
    batch = len(sem_seg_BHW)
    # One transfer for all that is checked: each one makes an accelerator wait.
    lowest_B, highest_B = sem_seg_BHW.flatten(1).aminmax(dim=1)
    packed = torch.cat([image_index_N, slot_index_N, lowest_B, highest_B]).cpu()
    image_N, slot_N, lowest_B, highest_B = packed.split([*[len(image_index_N)] * 2, batch, batch])
    if int(image_N.min()) < 0 or int(image_N.max()) >= batch:
        raise ValueError(f"slots of images {image_N.tolist()}, but there are {batch} images")
    slots_B = torch.bincount(image_N, minlength=batch)
    most_slots = int(slots_B.max())
    due_BQ = torch.arange(most_slots) < slots_B[:, None]
    inside = int(slot_N.min()) >= 0 and int(slot_N.max()) < most_slots
    # As many slots as are due, so each due one is there exactly once if none is missing.
    found_BQ = torch.zeros_like(due_BQ)
    if inside:
        found_BQ[image_N, slot_N] = True
    if not torch.equal(found_BQ, due_BQ):
        raise ValueError(
            f"slots {slot_N.tolist()} of images {image_N.tolist()}: each image needs slots "
            "0..K, each once"
        )
    wrong_B = (lowest_B < 0) | (highest_B >= slots_B)
    if bool(wrong_B.any()):
        image = int(wrong_B.nonzero()[0, 0])
        raise ValueError(
            f"image {image} of the batch has {int(slots_B[image])} slots (the dustbin and "
            f"{int(slots_B[image]) - 1} textures), but its ground truth has labels "
            f"{int(lowest_B[image])}..{int(highest_B[image])}"
        )
    return most_slots
