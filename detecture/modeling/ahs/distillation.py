"""SDR: patches stay near those of CLIP as it was before it was trained.

Published: w(t) times the mean angle between the patches of the student and of a frozen teacher; w
rises linearly to 0.5 in 5,000 iterations and falls by a cosine to 0.1 at 80,000.
Published code: the teacher is the same live CLIP, so that the loss is about zero and its gradient
1e-9; the weight of the config is not applied; and its pass leaves its own features behind, so that
the guidance trains no CLIP.
Here: the teacher is CLIP as it was: without turning, where that is what trains, else with its first
queries and values (or all visual weights), which are kept.

Legend: B images, E width of the common space, G grid.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

_PEAK, _END = 0.5, 0.1


def distillation_weight(iteration: int, warmup: int, end: int) -> float:
    """Of the loss at an iteration: 0 to 0.5 until `warmup`, then down to 0.1 at `end`."""
    if iteration < warmup:
        return _PEAK * iteration / warmup
    share = min((iteration - warmup) / max(end - warmup, 1), 1.0)
    return _END + (_PEAK - _END) * 0.5 * (1 + math.cos(math.pi * share))


def distillation_loss(student_BEGG: Tensor, teacher_BEGG: Tensor) -> Tensor:
    """Mean angle, in radians, between patches of the student and of the teacher, a scalar.

    By the arc tangent, whose gradient is finite where both are alike.
    """
    student = functional.normalize(student_BEGG.float(), dim=1)
    teacher = functional.normalize(teacher_BEGG.float(), dim=1)
    apart = (student - teacher).square().sum(dim=1)
    together = (student + teacher).square().sum(dim=1)
    # sqrt has no gradient at 0: there the angle is 0, and so is what should pull.
    alike = apart < 1e-12
    angle = 2 * torch.atan2(apart.masked_fill(alike, 1.0).sqrt(), together.sqrt())
    return angle.masked_fill(alike, 0.0).mean()
