"""The language loss (specification of the model, section 5): how much each answer token counts.

The loss comes as a sum and a count: the trainer adds them up over processes and micro-batches
before it divides (`LOSS.NORMALIZER`).

Legend: B images, A answer tokens, M tokens, V vocabulary.
"""

import torch
import torch.nn.functional as F

from detecture.config.sections.losses import LossSettings
from detecture.data.prompts import require_stop_mode
from detecture.errors import ConfigError
from detecture.modeling.vlm.region_attention import behind, find_seg

CLIFFS = LossSettings.choices_of("lm_cliff")
COSINE_FLOOR = 0.05


def lm_token_weights(
    ids_BA: torch.Tensor,
    valid_BA: torch.Tensor,
    seg_id: int,
    cliff: str,
    stop_supervision: str,
    alpha: float = LossSettings.lm_alpha,
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
    wide_MV = logits_MV.to(torch.promote_types(logits_MV.dtype, torch.float32))
    ce_M = F.cross_entropy(wide_MV, target_M, reduction="none")
    weight_M = weight_M.to(ce_M.dtype)
    return (weight_M * ce_M).sum(), weight_M.sum()


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
