"""What speaks for a number of regions: figures about the divisions of an image into 1, 2, .. K.

Legend: N grid cells, g, v grid, C embedding channels, F classical features, K regions, E figures
for one number of regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import get_args, get_type_hints

import numpy as np
from scipy import ndimage

from detecture.modeling.grouping import separation
from detecture.modeling.grouping.finder import Division, GridFeatures
from detecture.modeling.grouping.mixtures import principal_components
from detecture.modeling.grouping.net import STRIDE
from detecture.modeling.grouping.separation import Regions

_EIGENVALUES = 6
_COMPONENTS = 12
_NEAR, _FAR = 2, 4  # cells: nearer ones share receptive fields


@dataclass(frozen=True)
class DivisionEvidence:
    """Figures of one division of an image.

    Attributes:
        agreement: of the mixtures, 0..1.
        sureness, least_sureness: greatest posterior of a cell, the mean of all and of the region
            in which it is least.
        least_share: of the image, of the smallest region.
        entropy: of the shares, in nats.
        present: share of the regions asked for that have a cell.
        border: share of the cells near a border.
        fragments: see `separation.fragments`.
        least_edge, edge: steepness of the grey image at borders over its mean, of the region where
            it is least, and the mean.
        near, far: across borders, cells that lie 2 and 4 apart.
        cosines: of mean directions in the embedding.
        silhouette_*, valley_*, variances_*, discriminant_*: in the embedding and in the classical
            features; see `separation`.
    """

    agreement: float
    sureness: float
    least_sureness: float
    least_share: float
    entropy: float
    present: float
    border: float
    fragments: float
    least_edge: float
    edge: float
    near: separation.Borders
    far: separation.Borders
    cosines: separation.Cosines
    silhouette_embedding: float
    silhouette_classical: float
    valley_embedding: float
    valley_classical: float
    variances_embedding: separation.Variances
    variances_classical: separation.Variances
    discriminant_embedding: separation.Discriminant
    discriminant_classical: separation.Discriminant


@dataclass(frozen=True)
class ImageEvidence:
    """Figures of an image, whatever its division.

    Attributes:
        leading: the six greatest eigenvalues of the embedding's covariance, as shares of its trace.
        variance: that trace.
        roughness: 1 - cosine of cells 2 apart, the mean.
    """

    leading: tuple[float, float, float, float, float, float]
    variance: float
    roughness: float


@dataclass(frozen=True)
class _Views:
    """What all divisions of an image are judged by: components (N,12), edges (g,v)."""

    embedding_NF: np.ndarray
    classical_NF: np.ndarray
    edges_gv: np.ndarray


def evidence(features: GridFeatures, divisions: Sequence[Division]) -> np.ndarray:
    """Figures for each number of regions.

    Args:
        features: of the image.
        divisions: into 1, 2, .. regions, in this order.

    Returns:
        float64 (K,E), K divisions, E = EVIDENCE, named by `EVIDENCE_NAMES`: for each those of its
        division, those less the ones of the division into one fewer, those less the ones into one
        more (0 at the ends), and the figures of the image, the same in all rows.
    """
    views = _Views(
        principal_components(features.embedding_NC, _COMPONENTS),
        principal_components(features.classical_NF, _COMPONENTS),
        edges_of(features),
    )
    own = np.array([_flat(_of_division(features, views, one)) for one in divisions])
    fewer, more = np.zeros_like(own), np.zeros_like(own)
    fewer[1:] = own[1:] - own[:-1]
    more[:-1] = own[:-1] - own[1:]
    image = np.tile(_flat(_of_image(features)), (len(divisions), 1))
    return np.concatenate([own, fewer, more, image], axis=1)


def _flat(figures: DivisionEvidence | ImageEvidence) -> list[float]:
    """The figures in the order of their fields."""
    flat: list[float] = []
    for field in fields(figures):
        value = getattr(figures, field.name)
        flat += value if isinstance(value, tuple) else [value]
    return flat


def _names(kind: type[DivisionEvidence] | type[ImageEvidence]) -> list[str]:
    """A name for each of the figures that `_flat` gives."""
    names: list[str] = []
    for name, hint in get_type_hints(kind).items():
        parts = getattr(hint, "_fields", None) or range(len(get_args(hint)))
        names += [f"{name}.{part}" for part in parts] or [name]
    return names


_OF_DIVISION, _OF_IMAGE = _names(DivisionEvidence), _names(ImageEvidence)
EVIDENCE_NAMES = (
    *_OF_DIVISION,
    *(f"{name} less one fewer" for name in _OF_DIVISION),
    *(f"{name} less one more" for name in _OF_DIVISION),
    *_OF_IMAGE,
)
"""What each figure for one number of regions is; weights of a selector go by this order."""

EVIDENCE = len(EVIDENCE_NAMES)
"""Number of figures for one number of regions."""


def edges_of(features: GridFeatures) -> np.ndarray:
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


def _of_image(features: GridFeatures) -> ImageEvidence:
    embedding_NC = features.embedding_NC - features.embedding_NC.mean(axis=0)
    values = np.linalg.eigvalsh(embedding_NC.T @ embedding_NC / len(embedding_NC))[::-1]
    total = max(float(values.sum()), 1e-9)
    leading = np.zeros(_EIGENVALUES)
    found = values[:_EIGENVALUES] / total
    leading[: len(found)] = found
    whole = Regions.of(np.zeros(len(embedding_NC), np.int64), features.grid)
    roughness = separation.across_borders(features.embedding_NC, whole, _NEAR).within
    first, second, third, fourth, fifth, sixth = leading.tolist()
    return ImageEvidence((first, second, third, fourth, fifth, sixth), total, roughness)


def _of_division(features: GridFeatures, views: _Views, division: Division) -> DivisionEvidence:
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
    embedding_NC, classical_NF = features.embedding_NC, features.classical_NF
    return DivisionEvidence(
        agreement=division.agreement,
        sureness=float(sure_N.mean()),
        least_sureness=float(sure_K.min()),
        least_share=float(share_K.min()),
        entropy=float(-(share_K * np.log(share_K)).sum()),
        present=regions.count / posterior_NK.shape[1],
        border=float(border_N.mean()),
        fragments=separation.fragments(regions),
        least_edge=min(edges_K, default=1.0),
        edge=float(np.mean(edges_K)) if edges_K else 1.0,
        near=separation.across_borders(embedding_NC, regions, _NEAR),
        far=separation.across_borders(embedding_NC, regions, _FAR),
        cosines=separation.cosines(embedding_NC, regions),
        silhouette_embedding=separation.silhouette(embedding_NC, regions),
        silhouette_classical=separation.silhouette(classical_NF, regions),
        valley_embedding=separation.valley(embedding_NC, regions),
        valley_classical=separation.valley(classical_NF, regions),
        variances_embedding=separation.variances(embedding_NC, regions),
        variances_classical=separation.variances(classical_NF, regions),
        discriminant_embedding=separation.discriminant(views.embedding_NF, regions),
        discriminant_classical=separation.discriminant(views.classical_NF, regions),
    )
