"""What speaks for a number of regions: figures about the divisions of a picture into 1, 2, .. K.

Legend: N grid cells, C embedding channels, F classical features, K regions, E figures of one
division.
"""

from collections.abc import Sequence

import numpy as np

from detecture.modeling.grouping.finder import Division, PictureFeatures

_EIGENVALUES = 6
_NEIGHBOUR = 2  # cells: nearer ones share receptive fields
EVIDENCE_PER_DIVISION = 16
EVIDENCE_PER_PICTURE = _EIGENVALUES + 2


def evidence(features: PictureFeatures, divisions: Sequence[Division]) -> np.ndarray:
    """Figures for each number of regions.

    Args:
        features: of the picture.
        divisions: into 1, 2, .. regions, in this order.

    Returns:
        float64 (len(divisions), EVIDENCE): for each the figures of its division, those less the
        ones of the division into one fewer, those less the ones into one more (0 at the ends), and
        the figures of the picture, the same in all rows.
    """
    own = np.stack([_of_division(features, one) for one in divisions])
    fewer, more = np.zeros_like(own), np.zeros_like(own)
    fewer[1:] = own[1:] - own[:-1]
    more[:-1] = own[:-1] - own[1:]
    picture = np.tile(_of_picture(features), (len(divisions), 1))
    return np.concatenate([own, fewer, more, picture], axis=1)


EVIDENCE = 3 * EVIDENCE_PER_DIVISION + EVIDENCE_PER_PICTURE
"""Number of figures for one number of regions."""


def _of_picture(features: PictureFeatures) -> np.ndarray:
    embedding_NC = features.embedding_NC - features.embedding_NC.mean(axis=0)
    values = np.linalg.eigvalsh(embedding_NC.T @ embedding_NC / len(embedding_NC))[::-1]
    total = max(float(values.sum()), 1e-9)
    leading = np.zeros(_EIGENVALUES)
    found = values[:_EIGENVALUES] / total
    leading[: len(found)] = found
    differs = _edges(features.embedding_NC, features.grid)
    return np.concatenate([leading, [total, float(np.mean(np.concatenate(differs)))]])


def _edges(values_NC: np.ndarray, grid: tuple[int, int]) -> list[np.ndarray]:
    """1 - cosine of cells that are `_NEIGHBOUR` apart, downwards and to the right."""
    map_gvC = values_NC.reshape(*grid, -1)
    pairs = (
        (map_gvC[_NEIGHBOUR:], map_gvC[:-_NEIGHBOUR]),
        (map_gvC[:, _NEIGHBOUR:], map_gvC[:, :-_NEIGHBOUR]),
    )
    return [1.0 - np.sum(one * other, axis=-1).ravel() for one, other in pairs]


def _of_division(features: PictureFeatures, division: Division) -> np.ndarray:
    posterior_NK = division.posterior_NK
    winner_N = posterior_NK.argmax(axis=1)
    present = np.unique(winner_N)
    member_NK = (winner_N[:, None] == present).astype(np.float64)
    share_K = member_NK.mean(axis=0)
    inner = _separation(features.embedding_NC, member_NK, share_K)
    outer = _separation(features.classical_NF, member_NK, share_K)
    label_gv = winner_N.reshape(features.grid)
    apart = [
        (label_gv[_NEIGHBOUR:] != label_gv[:-_NEIGHBOUR]).ravel(),
        (label_gv[:, _NEIGHBOUR:] != label_gv[:, :-_NEIGHBOUR]).ravel(),
    ]
    crossing = np.concatenate(apart)
    contrast = np.concatenate(_edges(features.embedding_NC, features.grid))
    across = float(contrast[crossing].mean()) if crossing.any() else 0.0
    within = float(contrast[~crossing].mean()) if (~crossing).any() else 0.0
    return np.array(
        [
            division.agreement,
            float(posterior_NK.max(axis=1).mean()),
            float(share_K.min()),
            float(-(share_K * np.log(share_K)).sum()),
            len(present) / posterior_NK.shape[1],
            float(crossing.mean()) if len(crossing) else 0.0,
            across,
            within,
            *inner,
            *outer,
        ]
    )


def _separation(
    values_NF: np.ndarray, member_NK: np.ndarray, share_K: np.ndarray
) -> tuple[float, float, float, float]:
    """Share of the variance between regions, the least and the mean distance of two regions' means
    over the deviation within, and the greatest variance within one region over the mean."""
    if values_NF.shape[1] == 0:
        return 0.0, 0.0, 0.0, 0.0
    centred_NF = values_NF - values_NF.mean(axis=0)
    total = max(float((centred_NF**2).sum(axis=1).mean()), 1e-9)
    means_KF = member_NK.T @ centred_NF / (len(values_NF) * share_K)[:, None]
    square_N = (centred_NF**2).sum(axis=1)
    variance_K = member_NK.T @ square_N / (len(values_NF) * share_K) - (means_KF**2).sum(axis=1)
    within = max(float((share_K * variance_K).sum()), 1e-9)
    spread = float(np.log(max(float(variance_K.max()), 1e-9) / within))
    if len(share_K) == 1:
        return 1.0 - within / total, 0.0, 0.0, spread
    distance_KK = np.sqrt(((means_KF[:, None] - means_KF[None]) ** 2).sum(axis=-1))
    pairs = distance_KK[np.triu_indices(len(share_K), 1)] / np.sqrt(within)
    return 1.0 - within / total, float(pairs.min()), float(pairs.mean()), spread
