"""s_A: how much the masks of an image are like those of an image full of material.

Legend: N number of masks.
"""

from dataclasses import dataclass

import numpy as np

_SMALL = 0.001  # share of the image below which a mask is small


@dataclass(frozen=True, kw_only=True)
class MaskStatistics:
    """Sizes of the masks of an image, as shares of the image.

    Attributes:
        count: number of masks.
        largest: share of the largest.
        median: of the shares.
        small: share of the masks that are smaller than a thousandth of the image.
        entropy: of the shares, normalised to sum 1, in bits.
    """

    count: int = 0
    largest: float = 0.0
    median: float = 0.0
    small: float = 0.0
    entropy: float = 0.0

    @classmethod
    def of(cls, shares_N: np.ndarray) -> "MaskStatistics":
        """Of masks with these shares."""
        if shares_N.size == 0:
            return cls()
        shares_N = shares_N.astype(np.float64)
        odds_N = shares_N[shares_N > 0] / max(float(shares_N.sum()), np.finfo(float).tiny)
        return cls(
            count=int(shares_N.size),
            largest=float(shares_N.max()),
            median=float(np.median(shares_N)),
            small=float(np.mean(shares_N < _SMALL)),
            entropy=abs(float(-(odds_N * np.log2(odds_N)).sum())),  # abs: no -0.0
        )

    @property
    def score(self) -> float:
        """s_A, 0 to 100. Without any mask it is 42: the terms for what is not there are full."""
        value = 100.0 * (
            0.28 * min(1.0, self.count / 120)
            + 0.24 * (1.0 - min(1.0, self.largest / 0.65))
            + 0.18 * (1.0 - min(1.0, self.median / 0.03))
            + 0.18 * min(1.0, self.small / 0.55)
            + 0.12 * min(1.0, self.entropy / 4)
        )
        return min(100.0, max(0.0, value))

    def passes(self, with_entropy: bool = True) -> bool:
        """Whether an image with a list of segments passes the first stage."""
        return (
            self.count >= 80
            and self.largest <= 0.60
            and self.median <= 0.02
            and self.small >= 0.30
            and (not with_entropy or self.entropy >= 2.0)
        )
