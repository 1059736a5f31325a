"""From a model's scores to the one label map that every method is judged by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from detecture.errors import DetectureError, brief
from detecture.modeling.grouping.proposals import Alternative


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


def check_output(output: dict[str, Any], size: Sequence[int]) -> tuple[torch.Tensor, list[str]]:
    """Take the parts of a standard output, if it is one.

    Args:
        output: what a method returned for one image.
        size: the height and width that were asked for.

    Returns:
        `sem_seg`, (K+1,H,W), and its K descriptions.

    Raises:
        InvalidOutput: a part is missing, or shapes and counts do not go together, of the optional
            parts too (`check_beliefs`).
    """
    sem_seg, descriptions = output.get("sem_seg"), output.get("descriptions")
    if not isinstance(sem_seg, torch.Tensor) or sem_seg.ndim != 3:
        raise InvalidOutput(f"sem_seg must be a (K+1,H,W) tensor, got {_kind(sem_seg)}")
    if tuple(sem_seg.shape[1:]) != tuple(size):
        raise InvalidOutput(
            f"sem_seg is {tuple(sem_seg.shape[1:])} (H,W), {tuple(size)} was asked for"
        )
    due = len(sem_seg) - 1
    if not isinstance(descriptions, list) or len(descriptions) != due:
        got = len(descriptions) if isinstance(descriptions, list) else _kind(descriptions)
        raise InvalidOutput(
            f"sem_seg has {due + 1} channels, so {due} descriptions are due, got {got}"
        )
    if not all(isinstance(text, str) for text in descriptions):
        raise InvalidOutput(f"descriptions must be texts, got {descriptions!r:.200}")
    check_beliefs(output, due)
    return sem_seg, descriptions


def check_beliefs(
    output: dict[str, Any], regions: int
) -> tuple[tuple[Alternative, ...], tuple[float, ...]]:
    """Take the optional parts of a standard output; empty where the method has none.

    Args:
        output: what a method returned for one image.
        regions: K.

    Returns:
        `alternatives` and `confidence`, see `OutputBeliefs`.

    Raises:
        InvalidOutput: they are something else.
    """
    given = output.get("alternatives", ())
    try:
        alternatives = tuple(Alternative(int(count), float(share)) for count, share in given)
        sound = all(one.count >= 0 and 0.0 <= one.probability <= 1.0 + 1e-6 for one in alternatives)
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise InvalidOutput(
            f"alternatives must be pairs of a count and a probability, got {brief(given)}"
        )
    answers = output.get("confidence", ())
    try:
        confidence = tuple(float(value) for value in answers)
        sound = len(confidence) in (0, regions) and all(0.0 <= value <= 1.0 for value in confidence)
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise InvalidOutput(
            f"confidence must be {regions} numbers from 0 to 1, one for each region, got "
            f"{brief(answers)}"
        )
    return alternatives, confidence


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}{f' of shape {tuple(shape)}' if shape is not None else ''}"
