"""The review score of an annotation together with what models say of the image.

Legend: N number of images.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

PENALTIES = {
    "object_centric": 2.0,
    "too_many_objects": 1.4,
    "low_texture_content": 1.6,
    "no_clear_texture_boundary": 1.6,
    "mosaic_or_collage": 2.4,
    "synthetic_or_graphic": 2.4,
}
"""What a flag of the VLM costs."""

_DECISIONS = {"match": 2.0, "not_match": -2.0}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a VLM says of an image.

    Attributes:
        score: 0 to 100; None where it gave none.
        decision: `match`, `borderline` or `not_match`; empty where it gave none.
        flags: of `rubric.FLAGS`.
        reason: in words.
    """

    score: int | None = None
    decision: str = ""
    flags: tuple[str, ...] = ()
    reason: str = ""


def clip_percents(scores: Sequence[float | None]) -> list[float | None]:
    """CLIP's scores on a scale of 0 to 100: the 5 % and 95 % quantiles are its ends.

    Args:
        scores: of images; None where there is none.

    Returns:
        50 for all where the scores are equal; None where there was none.
    """
    known_N = np.array([score for score in scores if score is not None], np.float64)
    if known_N.size == 0:
        return [None] * len(scores)
    low, high = np.quantile(known_N, [0.05, 0.95])
    if high <= low:
        low, high = known_N.min(), known_N.max()
    if high <= low:
        return [None if score is None else 50.0 for score in scores]
    return [
        None if score is None else 100.0 * min(1.0, max(0.0, float((score - low) / (high - low))))
        for score in scores
    ]


def fused_score(
    base: float,
    clip100: float | None = None,
    verdict: Verdict | None = None,
    *,
    with_clip: bool = True,
    published: bool = False,
) -> float:
    """The review score with the models' part in it, 0 to 100.

    Always made from the base score of the annotation, so that fusing anew does not add up.

    The published fusion takes what is missing for 0, lowers the base's weight for it all the same,
    and takes flags off where there is no score. Here the weights of what is missing go to what is
    there: an image is not worse for not having been asked about.

    Args:
        base: review score of the annotation.
        clip100: of `clip_percents`; None where there is none.
        verdict: of the VLM; None where it was not asked.
        with_clip: whether CLIP was used at all (`published`).
        published: as published.
    """
    vlm = verdict.score if verdict else None
    if published:
        if vlm is not None:
            fused = 0.90 * base + 0.08 * (clip100 or 0.0) + 0.02 * vlm
        elif with_clip:
            fused = 0.92 * base + 0.08 * (clip100 or 0.0)
        else:
            fused = base
    else:
        parts = [(0.90, base), (0.08, clip100), (0.02, vlm)]
        known = [(weight, value) for weight, value in parts if value is not None]
        fused = sum(w * value for w, value in known) / sum(w for w, _ in known)
    if verdict and (published or vlm is not None):
        fused -= flag_penalty(verdict.flags)
    if verdict and vlm is not None:
        fused += _DECISIONS.get(verdict.decision, 0.0)
    return min(100.0, max(0.0, fused))


def flag_penalty(flags: Collection[str]) -> float:
    """What the flags of a verdict cost."""
    return sum(PENALTIES.get(flag, 0.0) for flag in set(flags))


def fuse(
    bases: Sequence[float],
    clip_scores: Sequence[float | None],
    verdicts: Sequence[Verdict | None],
    *,
    published: bool = False,
) -> list[float]:
    """Fused scores of all images at once, as the scale of CLIP's scores is that of all of them.

    Args:
        bases: review scores of the annotations.
        clip_scores: of `clip.ClipScores`; None where there is none.
        verdicts: of the VLM; None where it was not asked.
        published: as published.
    """
    percents = clip_percents(clip_scores)
    with_clip = any(score is not None for score in clip_scores)
    return [
        fused_score(base, percent, verdict, with_clip=with_clip, published=published)
        for base, percent, verdict in zip(bases, percents, verdicts, strict=True)
    ]
