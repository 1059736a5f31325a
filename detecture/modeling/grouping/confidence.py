"""How probable it is that a region is one: a logistic model on a few figures of it.

A region counts as found where it overlaps a true region with an IoU of `FOUND_IOU` or more.

Legend: N grid cells, g, v grid, C embedding channels, K regions of a division, R regions of any
number of images, F figures.
"""

from dataclasses import astuple, dataclass, fields

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from detecture.modeling.grouping.evidence import edges_of
from detecture.modeling.grouping.finder import Division, GridFeatures
from detecture.modeling.grouping.separation import Regions

FOUND_IOU = 0.5
"""IoU with a true region from which on a region counts as found."""

_STEP = 3  # cells: nearer ones share receptive fields
_NO_BORDER = 3.0  # log ratio of a region without a border: as good as any
_TINY = 1e-9


@dataclass(frozen=True)
class RegionFigures:
    """What a region's confidence is told by.

    Attributes:
        log_probability: of the division's count; 0 where the count was told.
        told: 1 where the count was told, else 0.
        sureness: mean posterior of its cells.
        least_sureness: that of the least sure tenth: their greatest.
        margin: mean posterior of its cells less that of their second region.
        log_share: log of its share of the image.
        border: share of its cells near a border.
        fragments: share of its cells that do not belong to its largest connected part.
        contrast: log ratio of 1 - cosine of cells 3 apart across its border to that inside.
        roughness: 1 - cosine of cells 3 apart inside.
        nearest: 1 - cosine of its mean direction in the embedding to that of the nearest other.
        edge: steepness of the grey image at its border over the image's mean.
        agreement: of the mixtures, 0..1.
        log_count: log of the number of regions.
        alone: 1 where it is the only region, else 0.
    """

    log_probability: float
    told: float
    sureness: float
    least_sureness: float
    margin: float
    log_share: float
    border: float
    fragments: float
    contrast: float
    roughness: float
    nearest: float
    edge: float
    agreement: float
    log_count: float
    alone: float


FIGURE_NAMES = tuple(field.name for field in fields(RegionFigures))
"""What each figure is; the weights go by this order."""

FIGURES = len(FIGURE_NAMES)
"""Number of figures of a region."""


def region_figures(
    features: GridFeatures, division: Division, log_probability: float | None
) -> np.ndarray:
    """Figures of each region of a division.

    Args:
        features: of the image.
        division: with K regions.
        log_probability: of its count; None: the count was told.

    Returns:
        float64 (K,F), named by `FIGURE_NAMES`; NaN for a region that wins no cell.
    """
    winner_N = division.posterior_NK.argmax(axis=1)
    regions = Regions.of(winner_N, features.grid)
    ordered_NK = np.sort(division.posterior_NK, axis=1)
    sure_N = ordered_NK[:, -1]
    margin_N = sure_N - ordered_NK[:, -2] if ordered_NK.shape[1] > 1 else sure_N
    edges_N = edges_of(features).ravel()
    nearest_K = _nearest(regions.means(features.embedding_NC))
    found_KF = np.full((division.posterior_NK.shape[1], FIGURES), np.nan)
    for place, number in enumerate(np.unique(winner_N).tolist()):
        inside_N = regions.label_N == place
        border_N = inside_N & ~regions.inner_N
        contrast, roughness = _contrast(features.embedding_NC, inside_N, features.grid)
        figures = RegionFigures(
            log_probability=0.0 if log_probability is None else log_probability,
            told=float(log_probability is None),
            sureness=float(sure_N[inside_N].mean()),
            least_sureness=float(np.quantile(sure_N[inside_N], 0.1)),
            margin=float(margin_N[inside_N].mean()),
            log_share=float(np.log(inside_N.mean())),
            border=float(border_N.sum() / inside_N.sum()),
            fragments=_fragments(inside_N.reshape(features.grid)),
            contrast=contrast,
            roughness=roughness,
            nearest=float(nearest_K[place]),
            edge=float(edges_N[border_N].mean()) if border_N.any() else 1.0,
            agreement=division.agreement,
            log_count=float(np.log(regions.count)),
            alone=float(regions.count == 1),
        )
        found_KF[number] = astuple(figures)
    return found_KF


def _nearest(means_KC: np.ndarray) -> np.ndarray:
    """1 - cosine of each mean to the nearest other one, (K,); 0 for one alone."""
    if len(means_KC) == 1:
        return np.zeros(1)
    unit_KC = means_KC / np.maximum(np.linalg.norm(means_KC, axis=1, keepdims=True), _TINY)
    apart_KK = 1.0 - unit_KC @ unit_KC.T
    np.fill_diagonal(apart_KK, np.inf)
    nearest_K: np.ndarray = apart_KK.min(axis=1)
    return nearest_K


def _contrast(
    embedding_NC: np.ndarray, inside_N: np.ndarray, grid: tuple[int, int]
) -> tuple[float, float]:
    """Contrast across the border of cells `inside_N` (bool) in an embedding, and roughness."""
    map_gvC, inside_gv = embedding_NC.reshape(*grid, -1), inside_N.reshape(grid)
    totals, cells = np.zeros(2), np.zeros(2)
    for one, other, here, there in (
        (map_gvC[_STEP:], map_gvC[:-_STEP], inside_gv[_STEP:], inside_gv[:-_STEP]),
        (map_gvC[:, _STEP:], map_gvC[:, :-_STEP], inside_gv[:, _STEP:], inside_gv[:, :-_STEP]),
    ):
        differs = 1.0 - np.einsum("gvc,gvc->gv", one, other)
        for place, pairs in enumerate((here != there, here & there)):
            totals[place] += differs[pairs].sum()
            cells[place] += pairs.sum()
    across, within = totals / np.maximum(cells, 1.0)
    if cells[0] < 1:
        return _NO_BORDER, float(within)
    return float(np.log((across + 0.01) / (within + 0.01))), float(within)


def _fragments(inside_gv: np.ndarray) -> float:
    """Share of the cells of a region, bool (g,v), outside its largest connected part."""
    parts_gv, _ = ndimage.label(inside_gv)
    largest = int(np.bincount(parts_gv.ravel())[1:].max())
    return 1.0 - largest / int(inside_gv.sum())


class RegionConfidence(nn.Module):
    """Logistic regression on standardised figures; without weights it knows nothing."""

    def __init__(self) -> None:
        """Make the weights, all 0: not fitted."""
        super().__init__()
        # Parameters, so that checkpoints have them; `detecture.recipes.confidence_fit` sets them.
        self.center = nn.Parameter(torch.zeros(FIGURES), requires_grad=False)
        self.scale = nn.Parameter(torch.zeros(FIGURES), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(FIGURES), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(1), requires_grad=False)

    @property
    def is_fitted(self) -> bool:
        """Whether it has weights; on the meta device, where nobody can tell, it is said to."""
        return self.scale.is_meta or bool((self.scale > 0).all())

    def forward(self, figures_RF: Tensor) -> Tensor:
        """Probabilities (R,) that regions overlap a true one; 0 where the figures are NaN."""
        # Regions unlike all that it was fitted to must not run away.
        standard_RF = ((figures_RF - self.center) / self.scale).clamp(-4.0, 4.0)
        odds_R = standard_RF @ self.weight + self.bias
        return torch.nan_to_num(torch.sigmoid(odds_R), nan=0.0)
