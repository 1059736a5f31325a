"""Losses of the model (specification of the model, sections 5 and 6) and its class scores.

All losses come as sums and counts: the trainer adds them up over processes and micro-batches before
it divides (`LOSS.NORMALIZER`).

Legend: B pictures, A answer tokens, M tokens, V vocabulary, N active slots of all pictures, Q slots
of one picture (the dustbin first), h, w size of the slots' logits, H, W size of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from detecture.data.prompts import require_stop_mode
from detecture.errors import ConfigError
from detecture.modeling.region_attention import behind, find_seg

CLIFFS = ("shifted_zero", "naive", "cosine", "uniform", "seg_only")
COSINE_FLOOR = 0.05
DICE_SMOOTH = 1.0


def lm_token_weights(
    ids_BA: torch.Tensor,
    valid_BA: torch.Tensor,
    seg_id: int,
    cliff: str,
    stop_supervision: str,
    alpha: float = 2.0,
) -> torch.Tensor:
    """Weight of each answer token as a target of the language loss.

    With d the distance in tokens to the nearest seg, before or behind:

    - `shifted_zero`: 1 - exp(-alpha*d), then 1 at every seg, then 0 directly behind every seg. The
      hidden state at seg, which predicts that token, is left free for the mask loss.
    - `naive`: 1 - exp(-alpha*d), so 0 at seg itself, which is therefore never learned.
    - `cosine`: in a block of n tokens (from behind a seg to the next one) token t has weight
      0.05 + 0.95 * (1 + cos(pi * t / (n-1))) / 2: the block's first token 1, its seg 0.05. Text
      behind the last seg counts as one more block; a block of one token has weight 1.
    - `uniform`: 1. `seg_only`: 1 at seg, 0 elsewhere.

    `newline` adds one thing to every cliff: the second token behind each seg, where the answer
    either goes on or stops, has weight exactly 1 (a seg, or a token directly behind a seg, keeps
    what its cliff says). The newline before it has what the cliff gives there: 0 with
    `shifted_zero` and `seg_only`.

    Args:
        ids_BA: (B,A) integer ids of the answers, right-padded; A may be 0.
        valid_BA: (B,A) bool, False on padding.
        seg_id: id of the seg token.
        cliff: one of `CLIFFS`.
        stop_supervision: `released` or `newline`.
        alpha: steepness, for `shifted_zero` and `naive`.

    Returns:
        (B,A) float32 in 0..1; 0 on padding and on all of an answer that holds no seg.

    Raises:
        ConfigError: an unknown `cliff` or `stop_supervision`.
        ValueError: the shapes differ or `valid_BA` is not bool.
    """
    require_stop_mode(stop_supervision)
    if cliff not in CLIFFS:
        raise ConfigError(f"LM cliff {cliff!r}: use one of {', '.join(CLIFFS)}")
    is_seg_BA = find_seg(ids_BA, valid_BA, seg_id)
    if ids_BA.shape[1] == 0:  # cummax refuses an empty dimension
        return torch.zeros(ids_BA.shape, device=ids_BA.device)
    behind_seg_BA = behind(is_seg_BA)
    if cliff == "uniform":
        weight_BA = torch.ones(ids_BA.shape, device=ids_BA.device)
    elif cliff == "seg_only":
        weight_BA = is_seg_BA.float()
    elif cliff == "cosine":
        weight_BA = _cosine_decay(is_seg_BA, valid_BA)
    else:
        weight_BA = 1.0 - torch.exp(-alpha * _distance_to_seg(is_seg_BA).float())
        if cliff == "shifted_zero":
            weight_BA = weight_BA.masked_fill(is_seg_BA, 1.0).masked_fill(behind_seg_BA, 0.0)
    if stop_supervision == "newline":
        decision_BA = behind(is_seg_BA, 2) & ~is_seg_BA & ~behind_seg_BA
        weight_BA = weight_BA.masked_fill(decision_BA, 1.0)
    learned_BA = valid_BA & is_seg_BA.any(dim=1, keepdim=True)
    return weight_BA.masked_fill(~learned_BA, 0.0)


def weighted_cross_entropy(
    logits_MV: torch.Tensor, target_M: torch.Tensor, weight_M: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sum of cross-entropies and sum of the weights; their quotient is the loss.

    Args:
        logits_MV: (M,V) scores that predict the targets (already shifted); M may be 0. Computed in
            float32 at least.
        target_M: (M,) int64.
        weight_M: (M,) float.

    Returns:
        Two scalars, in nats and without unit.

    Raises:
        ValueError: the shapes do not go together.
    """
    if logits_MV.ndim != 2 or not (len(logits_MV),) == target_M.shape == weight_M.shape:
        raise ValueError(
            f"logits {tuple(logits_MV.shape)}, targets {tuple(target_M.shape)} and weights "
            f"{tuple(weight_M.shape)} must be (M,V), (M,) and (M,)"
        )
    ce_M = F.cross_entropy(_at_least_fp32(logits_MV), target_M, reduction="none")
    weight_M = weight_M.to(ce_M.dtype)
    return (weight_M * ce_M).sum(), weight_M.sum()


@dataclass(frozen=True)
class MaskLossSums:
    """Sums of the two mask losses, and the counts to divide them by."""

    ce_sum: torch.Tensor
    """Scalar, in nats: over pictures, of the mean cross-entropy of a pixel."""
    ce_count: int
    """Number of pictures."""
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
    """Cross-entropy over slots and soft Dice of a batch whose pictures differ in slot number.

    The logits are resized bilinearly to the ground truth's size first and set beside each other
    then: an unused slot's lowest value, mixed in by the resize, would overflow to NaN (the defect
    of the published code, specification section 7).

    Args:
        slot_logits_Nhw: (N,h,w) float logits of the active slots of all pictures, in any order.
            Computed in float32 at least, also under autocast.
        image_index_N: (N,) int64, the picture that a slot belongs to.
        slot_index_N: (N,) int64, its number there: 0 dustbin, i texture i. The slots of a picture
            with K textures are 0..K, each once.
        sem_seg_BHW: (B,H,W) integer ground truth: 0 dustbin, i texture i.

    Returns:
        The sums. Dice is 1 - (2*sum(p*t) + 1) / (sum(p) + sum(t) + 1), with p the softmax
        probability of the slot and t whether the pixel is its own.

    Raises:
        ValueError: shapes or indices do not go together, or a picture's ground truth has a label
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
    """The standard output of a model from the active slots of one picture.

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


def _distance_to_seg(is_seg_BA: torch.Tensor) -> torch.Tensor:
    """(B,A) int64 distance to the nearest seg on either side; large where there is none."""
    index_A = torch.arange(is_seg_BA.shape[1], device=is_seg_BA.device)
    far = 2 * is_seg_BA.shape[1]
    previous_BA = torch.where(is_seg_BA, index_A, -far).cummax(dim=1).values
    return torch.minimum(index_A - previous_BA, _next_seg(is_seg_BA, far) - index_A)


def _next_seg(is_seg_BA: torch.Tensor, missing: int) -> torch.Tensor:
    """(B,A) int64 position of the first seg from each token on; `missing` where there is none."""
    index_A = torch.arange(is_seg_BA.shape[1], device=is_seg_BA.device)
    position_BA = torch.where(is_seg_BA, index_A, missing)
    return position_BA.flip(1).cummin(dim=1).values.flip(1)


def _cosine_decay(is_seg_BA: torch.Tensor, valid_BA: torch.Tensor) -> torch.Tensor:
    """(B,A) float32: 1 at the head of a block, down by half a cosine to the floor at its seg."""
    index_A = torch.arange(is_seg_BA.shape[1], device=is_seg_BA.device)
    start_BA = torch.where(behind(is_seg_BA), index_A, 0).cummax(dim=1).values
    missing = is_seg_BA.shape[1]
    next_BA = _next_seg(is_seg_BA, missing)
    last_B1 = valid_BA.sum(dim=1, keepdim=True) - 1
    end_BA = torch.where(next_BA == missing, last_B1, next_BA)
    phase_BA = (index_A - start_BA) / (end_BA - start_BA).clamp(min=1)
    decay_BA = (1.0 + torch.cos(torch.pi * phase_BA)) / 2.0
    return COSINE_FLOOR + (1.0 - COSINE_FLOOR) * decay_BA


def _at_least_fp32(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _resize(slot_logits_Nhw: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear to (H,W), in float32 at least."""
    logits_N1hw = _at_least_fp32(slot_logits_Nhw)[:, None]
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
            f"slot logits {tuple(slot_logits_Nhw.shape)}, picture and slot indices "
            f"{tuple(image_index_N.shape)} and {tuple(slot_index_N.shape)}, ground truth "
            f"{tuple(sem_seg_BHW.shape)}: they must be (N,h,w), (N,), (N,) and (B,H,W)"
        )
    if count == 0 or sem_seg_BHW.numel() == 0:
        raise ValueError(f"{count} slots, ground truth {tuple(sem_seg_BHW.shape)}: none to learn")


def _check_slots(
    image_index_N: torch.Tensor, slot_index_N: torch.Tensor, sem_seg_BHW: torch.Tensor
) -> int:
    """The largest number of slots of a picture, if slots and labels go together."""
    batch = len(sem_seg_BHW)
    # One transfer for all that is checked: each one makes an accelerator wait.
    lowest_B, highest_B = sem_seg_BHW.flatten(1).aminmax(dim=1)
    packed = torch.cat([image_index_N, slot_index_N, lowest_B, highest_B]).cpu()
    image_N, slot_N, lowest_B, highest_B = packed.split([*[len(image_index_N)] * 2, batch, batch])
    if int(image_N.min()) < 0 or int(image_N.max()) >= batch:
        raise ValueError(f"slots of pictures {image_N.tolist()}, but there are {batch} pictures")
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
            f"slots {slot_N.tolist()} of pictures {image_N.tolist()}: each picture needs slots "
            "0..K, each once"
        )
    wrong_B = (lowest_B < 0) | (highest_B >= slots_B)
    if bool(wrong_B.any()):
        image = int(wrong_B.nonzero()[0, 0])
        raise ValueError(
            f"picture {image} of the batch has {int(slots_B[image])} slots (the dustbin and "
            f"{int(slots_B[image]) - 1} textures), but its ground truth has labels "
            f"{int(lowest_B[image])}..{int(highest_B[image])}"
        )
    return most_slots
