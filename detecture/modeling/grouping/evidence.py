"""What speaks for a number of regions: figures about the divisions of an image into 1, 2, .. K.

Legend: N grid cells, g, v grid, C embedding channels, F classical features, K regions, E figures of
one division.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from detecture.modeling.grouping import separation
from detecture.modeling.grouping.finder import Division, ImageFeatures
from detecture.modeling.grouping.mixtures import principal_components
from detecture.modeling.grouping.net import STRIDE
from detecture.modeling.grouping.separation import Regions

_EIGENVALUES = 6
_COMPONENTS = 12
_NEAR, _FAR = 2, 4  # cells: nearer ones share receptive fields
EVIDENCE_PER_DIVISION = 32
EVIDENCE_PER_IMAGE = _EIGENVALUES + 2


@dataclass(frozen=True)
class _Views:
    """What all divisions of an image are judged by: components (N,12), edges (g,v)."""

    embedding_NF: np.ndarray
    classical_NF: np.ndarray
    edges_gv: np.ndarray


def evidence(features: ImageFeatures, divisions: Sequence[Division]) -> np.ndarray:
    """Figures for each number of regions.

    Args:
        features: of the image.
        divisions: into 1, 2, .. regions, in this order.

    Returns:
        float64 (len(divisions), EVIDENCE): for each the figures of its division, those less the
        ones of the division into one fewer, those less the ones into one more (0 at the ends), and
        the figures of the image, the same in all rows.
    """
    views = _Views(
        principal_components(features.embedding_NC, _COMPONENTS),
        principal_components(features.classical_NF, _COMPONENTS),
        _edges(features),
    )
    own = np.stack([_of_division(features, views, one) for one in divisions])
    fewer, more = np.zeros_like(own), np.zeros_like(own)
    fewer[1:] = own[1:] - own[:-1]
    more[:-1] = own[:-1] - own[1:]
    image = np.tile(_of_image(features), (len(divisions), 1))
    return np.concatenate([own, fewer, more, image], axis=1)


EVIDENCE = 3 * EVIDENCE_PER_DIVISION + EVIDENCE_PER_IMAGE
"""Number of figures for one number of regions."""


def _edges(features: ImageFeatures) -> np.ndarray:
    """Steepness of the grey image in each cell, over its mean: (g,v)."""
    grey_hw = features.guide_1hw[0].cpu().numpy()
    steep_hw = ndimage.gaussian_gradient_magnitude(grey_hw, 1.5)
    rows, columns = (
        np.minimum(np.arange(cells) * STRIDE + STRIDE // 2, side - 1)
        for cells, side in zip(features.grid, grey_hw.shape, strict=True)
    )
    steep_gv = steep_hw[rows][:, columns].astype(np.float64)
    edges_gv: np.ndarray = steep_gv / max(float(steep_gv.mean()), 1e-6)
    return edges_gv


def _of_image(features: ImageFeatures) -> np.ndarray:
    embedding_NC = features.embedding_NC - features.embedding_NC.mean(axis=0)
    values = np.linalg.eigvalsh(embedding_NC.T @ embedding_NC / len(embedding_NC))[::-1]
    total = max(float(values.sum()), 1e-9)
    leading = np.zeros(_EIGENVALUES)
    found = values[:_EIGENVALUES] / total
    leading[: len(found)] = found
    whole = Regions.of(np.zeros(len(embedding_NC), np.int64), features.grid)
    roughness = separation.across_borders(features.embedding_NC, whole, _NEAR)[1]
    return np.concatenate([leading, [total, roughness]])


def _of_division(features: ImageFeatures, views: _Views, division: Division) -> np.ndarray:
    posterior_NK = division.posterior_NK
    sure_N = posterior_NK.max(axis=1)
    regions = Regions.of(posterior_NK.argmax(axis=1), features.grid)
    share_K = regions.share_K
    border_N = ~regions.inner_N
    sure_K = regions.means(sure_N[:, None])[:, 0]
    edges_K = [
        float(views.edges_gv.ravel()[border_N & (regions.label_N == number)].mean())
        for number in range(regions.count)
        if (border_N & (regions.label_N == number)).any()
    ]
    return np.array(
        [
            division.agreement,
            float(sure_N.mean()),
            float(sure_K.min()),
            float(share_K.min()),
            float(-(share_K * np.log(share_K)).sum()),
            regions.count / posterior_NK.shape[1],
            float(border_N.mean()),
            separation.fragments(regions),
            min(edges_K, default=1.0),
            float(np.mean(edges_K)) if edges_K else 1.0,
            *separation.across_borders(features.embedding_NC, regions, _NEAR),
            *separation.across_borders(features.embedding_NC, regions, _FAR),
            *separation.cosines(features.embedding_NC, regions),
            separation.silhouette(features.embedding_NC, regions),
            separation.silhouette(features.classical_NF, regions),
            separation.valley(features.embedding_NC, regions),
            separation.valley(features.classical_NF, regions),
            *separation.variances(features.embedding_NC, regions),
            *separation.variances(features.classical_NF, regions),
            *separation.discriminant(views.embedding_NF, regions),
            *separation.discriminant(views.classical_NF, regions),
        ]
    )
