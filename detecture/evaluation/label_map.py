"""From a model's scores to the one label map that every method is judged by."""

import numpy as np
import torch

from detecture.errors import DetectureError


class InvalidOutput(DetectureError):
    """A method returned something that is not the standard output (shape, count or values)."""


def scores_to_label_map(sem_seg: torch.Tensor) -> np.ndarray:
    """Assign every pixel to the texture or the dustbin of highest score.

    Args:
        sem_seg: (K+1,H,W) float; channels 0..K-1 are the textures, channel K the dustbin. K may
            be 0.

    Returns:
        (H,W) int32; texture i is i+1, the dustbin 0. Ties go to the lowest channel, so a texture
        wins over the dustbin and an earlier texture over a later one. The argmax is taken on the
        scores themselves: after a softmax in single precision there would be false ties.

    Raises:
        InvalidOutput: wrong number of dimensions, no channel, or NaN among the scores.
    """
    if sem_seg.ndim != 3 or sem_seg.shape[0] < 1:
        raise InvalidOutput(f"sem_seg must be (K+1,H,W) with K+1 >= 1, got {tuple(sem_seg.shape)}")
    # NaN is the only value that differs from itself; argmax would silently prefer it.
    if bool((sem_seg != sem_seg).any()):
        raise InvalidOutput("sem_seg holds NaN scores")
    num_textures = sem_seg.shape[0] - 1
    # numpy's argmax documents the tie rule (first occurrence); torch's does not.
    channel_HW = np.argmax(sem_seg.detach().float().cpu().numpy(), axis=0)
    return np.where(channel_HW == num_textures, 0, channel_HW + 1).astype(np.int32)


def check_label_map(label_map: np.ndarray, num_textures: int) -> None:
    """Refuse a label map with values outside 0..K.

    Raises:
        InvalidOutput: names the offending range.
    """
    if label_map.size and not 0 <= label_map.min() <= label_map.max() <= num_textures:
        raise InvalidOutput(
            f"label map holds values {label_map.min()}..{label_map.max()}, "
            f"allowed are 0..{num_textures}"
        )
