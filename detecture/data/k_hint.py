"""What a method may know about K, the number of texture regions of an image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detecture.config.sections.evaluation import COUNT_WORDS, MOST_REGIONS, is_count
from detecture.errors import ConfigError, PredictionError, brief

K_OF_REGIME: dict[str, int | None] = {"single": 1, "pair": 2, "autonomous": None}
"""The number of regions that each regime of a data set grants to every method."""

FROM_TRUTH = frozenset({"per_image", "ground_truth_top_k"})
"""Values of TEST.COUNT that tell a method the true number of regions of each image."""

HINT_KINDS = ("none", "regime", "per_image", "ground_truth_top_k", "fixed")


@dataclass(frozen=True)
class KHint:
    """Everything a method is told about the number of regions of one image.

    Attributes:
        kind: `none` (nothing is known), `regime` (the data set's regime grants `k`), `per_image`
            (`k` is this image's true number; such a row is marked), `ground_truth_top_k` (the same,
            given to one method only, as in a published cell; marked separately) or `fixed` (`k` was
            given by the user).
        k: the number; None exactly when `kind` is `none`.

    Raises:
        ConfigError: an unknown kind, or a number that does not go with it.
    """

    kind: str = "none"
    k: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in HINT_KINDS:
            raise ConfigError(f"K hint kind {self.kind!r}: use one of {', '.join(HINT_KINDS)}")
        if (self.kind == "none") != (self.k is None) or (self.k is not None and self.k < 1):
            raise ConfigError(
                f"K hint {self.kind!r} with k = {self.k!r}: none goes with no number, the other "
                "kinds with a positive one"
            )


def resolve_k_hint(
    count: str | int, k_regime: str, true_k: Callable[[], int] | int | None = None
) -> KHint:
    """The hint for one image.

    Args:
        count: `TEST.COUNT`: `regime`, `autonomous`, `per_image`,
            `ground_truth_top_k` or a positive integer (as a number or as text).
        k_regime: the data set's regime: `single`, `pair` or `autonomous`.
        true_k: the image's true number of regions, or a function that finds it; used (and called)
            only when `count` is `per_image` or `ground_truth_top_k`.

    Raises:
        ConfigError: `count` or `k_regime` is not one of the above, or a true number is required but
            not known.
    """
    if k_regime not in K_OF_REGIME:
        raise ConfigError(f"k_regime {k_regime!r}: use one of {', '.join(K_OF_REGIME)}")
    if count == "autonomous":
        return KHint()
    if count == "regime":
        granted = K_OF_REGIME[k_regime]
        return KHint() if granted is None else KHint("regime", granted)
    if count in FROM_TRUTH:
        if true_k is None:
            raise ConfigError(
                f"TEST.COUNT {count} needs images with ground truth; use regime, autonomous or "
                "an integer here"
            )
        return KHint(str(count), true_k() if callable(true_k) else true_k)
    if not isinstance(count, bool) and is_count(str(count)):
        return KHint("fixed", int(count))
    raise ConfigError(
        f"TEST.COUNT {brief(count)}: use {', '.join(COUNT_WORDS)} or a positive integer up "
        f"to {MOST_REGIONS:,}"
    )


def require_count(where: str, count: Any) -> int:
    """A number of regions that a user gives, where it is one.

    Args:
        where: the option or argument, for the error.
        count: what was given.

    Raises:
        ConfigError: it is no whole number from 1 to `MOST_REGIONS`.
    """
    if (
        isinstance(count, (int, np.integer))
        and not isinstance(count, bool)
        and 1 <= count <= MOST_REGIONS
    ):
        return int(count)
    raise ConfigError(
        f"{where} is the number of regions, 1 or more and {MOST_REGIONS:,} at most, got "
        f"{brief(count)}"
    )


def require_room(sample: Mapping[str, Any]) -> None:
    """Check that an image has a pixel for each region that the user says it has.

    Args:
        sample: mapped dict, `image` (3,H,W); without `k_hint` nothing is checked. What a data set's
            regime grants is no user's word: there, regions too many stay empty.

    Raises:
        PredictionError: it has fewer.
    """
    hint, image = sample.get("k_hint"), sample.get("image")
    if hint is None or image is None or hint.kind != "fixed":
        return
    height, width = image.shape[-2:]
    if hint.k > height * width:
        raise PredictionError(
            f"{hint.k:,} regions are asked for (--count, TEST.COUNT or count), and the image has "
            f"{width} x {height} pixels: {height * width:,} regions are the most; lower the number"
        )
