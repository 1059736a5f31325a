"""How well the regions of one division lie apart: figures that do not ask what the regions are.

Legend: N grid cells, g, v grid, F features, C embedding channels, K regions, P pairs of
regions (i < j).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

_TINY = 1e-9
_RIDGE = 1e-3
_FAR = 3.0
"""Log ratio that stands for a pair without a common border: as good as any."""


@dataclass(frozen=True)
class Regions:
    """A division with one region for each cell.

    Attributes:
        label_N: int64, 0..K-1, each at least once.
        member_NK: the same as 0 and 1, float64.
        grid: g and v.
        inner_N: cells whose neighbours up to two cells away belong to the same region.
    """

    label_N: np.ndarray
    member_NK: np.ndarray
    grid: tuple[int, int]
    inner_N: np.ndarray

    @classmethod
    def of(cls, winner_N: np.ndarray, grid: tuple[int, int]) -> "Regions":
        """From the most probable region of each cell; numbers without a cell are left out."""
        present, label_N = np.unique(winner_N, return_inverse=True)
        label_N = label_N.reshape(-1)
        label_gv = label_N.reshape(grid)
        inner_gv = ndimage.maximum_filter(label_gv, 5) == ndimage.minimum_filter(label_gv, 5)
        member_NK = (label_N[:, None] == np.arange(len(present))).astype(np.float64)
        return cls(label_N, member_NK, grid, inner_gv.ravel())

    @property
    def count(self) -> int:
        """K."""
        return self.member_NK.shape[1]

    @property
    def share_K(self) -> np.ndarray:
        """Share of the cells of each region: (K,)."""
        share: np.ndarray = self.member_NK.mean(axis=0)
        return share

    def pairs(self) -> Iterator[tuple[int, int]]:
        """All pairs i < j."""
        return ((i, j) for i in range(self.count) for j in range(i + 1, self.count))

    def means(self, values_NF: np.ndarray) -> np.ndarray:
        """Mean of each region (K,F)."""
        means_KF: np.ndarray = self.member_NK.T @ values_NF / self.member_NK.sum(axis=0)[:, None]
        return means_KF


class Variances(NamedTuple):
    """How the variance of features divides.

    Attributes:
        between: its share between regions, 0..1.
        least_distance: of two regions' means, over the deviation within.
    """

    between: float
    least_distance: float


class Cosines(NamedTuple):
    """1 - cosine of two regions' mean directions: of the nearest pair, and the mean of all."""

    least: float
    mean: float


class Discriminant(NamedTuple):
    """How regions lie apart in units of their own deviation.

    Attributes:
        log_distance: log of the least distance of two means in units of their common deviation.
        log_determinant: of the covariance within all regions, for one feature.
    """

    log_distance: float
    log_determinant: float


class Borders(NamedTuple):
    """1 - cosine of cells a few steps apart.

    Attributes:
        across: mean across borders.
        within: mean within regions.
        least: that of the pair of regions with the least across its border.
        log_ratio: least log ratio of a pair's to the ones within both.
    """

    across: float
    within: float
    least: float
    log_ratio: float


def variances(values_NF: np.ndarray, regions: Regions) -> Variances:
    """How the variance of features (N,F) divides; zeros where there are none."""
    if values_NF.shape[1] == 0:
        return Variances(0.0, 0.0)
    centred_NF = values_NF - values_NF.mean(axis=0)
    square_N = (centred_NF**2).sum(axis=1)
    total = max(float(square_N.mean()), _TINY)
    means_KF = regions.means(centred_NF)
    variance_K = regions.means(square_N[:, None])[:, 0] - (means_KF**2).sum(axis=1)
    within = max(float((regions.share_K * variance_K).sum()), _TINY)
    apart = [float(np.linalg.norm(means_KF[i] - means_KF[j])) for i, j in regions.pairs()]
    least = min(apart, default=0.0) / float(np.sqrt(within))
    return Variances(1.0 - within / total, least)


def silhouette(values_NF: np.ndarray, regions: Regions) -> float:
    """Mean simplified silhouette, -1..1: distance to the own mean against that to the next one."""
    if regions.count == 1 or values_NF.shape[1] == 0:
        return 0.0
    means_KF = regions.means(values_NF)
    square_NK = (
        (values_NF**2).sum(axis=1)[:, None]
        - 2.0 * values_NF @ means_KF.T
        + (means_KF**2).sum(axis=1)
    )
    distance_NK = np.sqrt(np.maximum(square_NK, 0.0))
    own_N = np.take_along_axis(distance_NK, regions.label_N[:, None], axis=1)[:, 0]
    other_N = np.where(regions.member_NK > 0, np.inf, distance_NK).min(axis=1)
    return float(np.mean((other_N - own_N) / np.maximum(np.maximum(own_N, other_N), _TINY)))


def cosines(embedding_NC: np.ndarray, regions: Regions) -> Cosines:
    """Of the regions' mean directions in an embedding (N,C); zeros for one region."""
    means_KC = regions.means(embedding_NC)
    means_KC /= np.maximum(np.linalg.norm(means_KC, axis=1, keepdims=True), _TINY)
    apart = [1.0 - float(means_KC[i] @ means_KC[j]) for i, j in regions.pairs()] or [0.0]
    return Cosines(min(apart), float(np.mean(apart)))


def valley(values_NF: np.ndarray, regions: Regions) -> float:
    """How full the middle between the means of two regions is, for the worst pair, 0..1.5.

    Between two textures hardly any cell lies half way; a region that was cut in two has as many
    there as elsewhere. Cells at borders see both sides and are left out where others remain.
    """
    means_KF = regions.means(values_NF)
    worst = 0.0
    for i, j in regions.pairs():
        way_F = means_KF[j] - means_KF[i]
        length = float(way_F @ way_F)
        if length < _TINY:
            return 1.5
        either_N = (regions.label_N == i) | (regions.label_N == j)
        inside_N = either_N & regions.inner_N
        chosen_N = inside_N if inside_N.sum() > 30 else either_N
        place = (values_NF[chosen_N] - means_KF[i]) @ way_F / length
        middle = float(((place > 0.35) & (place < 0.65)).mean()) / 0.3
        near = float(((place > -0.15) & (place < 0.35)).mean()) / 0.5
        far = float(((place >= 0.65) & (place < 1.15)).mean()) / 0.5
        worst = max(worst, min(1.5, middle / (min(near, far) + 0.02)))
    return worst


def discriminant(values_NF: np.ndarray, regions: Regions) -> Discriminant:
    """How regions lie apart in features (N,F); zeros where there are none."""
    width = values_NF.shape[1]
    if width == 0:
        return Discriminant(0.0, 0.0)
    left_NF = values_NF - regions.means(values_NF)[regions.label_N]
    moments_KFF = [
        (left_NF[regions.label_N == k].T @ left_NF[regions.label_N == k])
        for k in range(regions.count)
    ]
    scale = float((values_NF**2).sum()) / values_NF.size + _TINY
    within_FF = sum(moments_KFF) / len(values_NF) + 0.1 * _RIDGE * scale * np.eye(width)
    log_determinant = float(np.linalg.slogdet(within_FF)[1]) / width
    means_KF, cells_K = regions.means(values_NF), regions.member_NK.sum(axis=0)
    least = 50.0
    for i, j in regions.pairs():
        common_FF = (moments_KFF[i] + moments_KFF[j]) / (cells_K[i] + cells_K[j])
        way_F = means_KF[j] - means_KF[i]
        solved_F = np.linalg.solve(common_FF + _RIDGE * scale * np.eye(width), way_F)
        least = min(least, float(np.sqrt(max(way_F @ solved_F, 0.0))))
    log_distance = float(np.log(least + 0.1)) if regions.count > 1 else 0.0
    return Discriminant(log_distance, log_determinant)


def across_borders(embedding_NC: np.ndarray, regions: Regions, step: int) -> Borders:
    """Of cells `step` apart in an embedding (N,C); zeros but `within` for one region."""
    map_gvC = embedding_NC.reshape(*regions.grid, -1)
    label_gv = regions.label_N.reshape(regions.grid)
    count = regions.count
    total_KK, cells_KK = np.zeros((count, count)), np.zeros((count, count))
    for one, other, here, there in (
        (map_gvC[step:], map_gvC[:-step], label_gv[step:], label_gv[:-step]),
        (map_gvC[:, step:], map_gvC[:, :-step], label_gv[:, step:], label_gv[:, :-step]),
    ):
        differs = 1.0 - np.einsum("gvc,gvc->gv", one, other).ravel()
        place = (np.minimum(here, there) * count + np.maximum(here, there)).ravel()
        total_KK += np.bincount(place, differs, count * count).reshape(count, count)
        cells_KK += np.bincount(place, minlength=count * count).reshape(count, count)
    mean_KK = total_KK / np.maximum(cells_KK, 1.0)
    apart = ~np.eye(count, dtype=bool)
    across = float(total_KK[apart].sum() / max(cells_KK[apart].sum(), 1.0))
    within = float(np.trace(total_KK) / max(np.trace(cells_KK), 1.0))
    least, ratio = _FAR, _FAR
    for i, j in regions.pairs():
        if cells_KK[i, j] >= 4 * step:
            inner = 0.5 * (mean_KK[i, i] + mean_KK[j, j])
            least = min(least, float(mean_KK[i, j]))
            ratio = min(ratio, float(np.log((mean_KK[i, j] + 0.01) / (inner + 0.01))))
    if count == 1:
        return Borders(0.0, within, 0.0, 0.0)
    return Borders(across, within, least, ratio)


def fragments(regions: Regions) -> float:
    """Share of the cells that do not belong to the largest connected part of their region."""
    label_gv = regions.label_N.reshape(regions.grid)
    largest = 0
    for number in range(regions.count):
        parts_gv, _ = ndimage.label(label_gv == number)
        largest += int(np.bincount(parts_gv.ravel())[1:].max())
    return 1.0 - largest / label_gv.size
