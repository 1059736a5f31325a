"""Figures of how well the regions of a division lie apart."""

import numpy as np
import pytest

from detecture.modeling.grouping import separation
from detecture.modeling.grouping.separation import Regions

GRID = (24, 24)


def split(columns=12):
    labels = np.zeros(GRID, np.int64)
    labels[:, columns:] = 1
    return Regions.of(labels.ravel(), GRID)


def values(regions, distance):
    """Unit vectors around two directions that lie `distance` apart, with noise."""
    rng = np.random.default_rng(0)
    values_NF = 0.2 * rng.standard_normal((len(regions.label_N), 4))
    values_NF[:, 0] += 1.0
    values_NF[:, 1] += distance * regions.label_N
    return values_NF / np.linalg.norm(values_NF, axis=1, keepdims=True)


def test_numbers_without_a_cell_are_left_out():
    regions = Regions.of(np.repeat([0, 5], 288), GRID)
    assert regions.count == 2
    assert regions.share_K == pytest.approx([0.5, 0.5])
    assert not regions.inner_N.reshape(GRID)[10:14].any()
    assert regions.inner_N.reshape(GRID)[:9].all()


def test_two_textures_and_one_spread_that_was_cut_in_two():
    regions = split()
    two = values(regions, 2.0)
    rng = np.random.default_rng(1)
    change = 0.1 * rng.standard_normal((576, 4))
    change[:, 0] += 1.0
    change[:, 1] += rng.uniform(-1.0, 1.0, 576)
    cut = Regions.of((change[:, 1] > 0).astype(np.int64), GRID)
    assert separation.valley(two, regions) < 0.1 < 0.6 < separation.valley(change, cut)
    assert separation.silhouette(two, regions) > separation.silhouette(change, cut) + 0.1
    same = values(regions, 0.0)
    assert separation.cosines(two, regions).least > 0.3
    assert separation.cosines(same, regions).least < 0.01
    far, near = (separation.discriminant(one, regions).log_distance for one in (two, same))
    assert far > near + 1
    assert separation.variances(two, regions).between > 0.5
    assert separation.variances(same, regions).between < 0.5


def test_contrast_across_borders():
    regions = split()
    across, within, least, ratio = separation.across_borders(values(regions, 2.0), regions, 2)
    assert across == pytest.approx(least)  # there is one pair
    assert across > 3.0 * within
    assert ratio == pytest.approx(np.log((across + 0.01) / (within + 0.01)), abs=0.05)
    across, within, _, ratio = separation.across_borders(values(regions, 0.0), regions, 2)
    assert abs(ratio) < 0.2


def test_fragments():
    labels = np.zeros(GRID, np.int64)
    assert separation.fragments(Regions.of(labels.ravel(), GRID)) == 0.0
    labels[2:6, 2:6] = labels[12:16, 12:14] = 1
    assert separation.fragments(Regions.of(labels.ravel(), GRID)) == pytest.approx(8 / 576)


def test_one_region_and_no_features_give_numbers():
    whole = Regions.of(np.zeros(576, np.int64), GRID)
    some, none = values(whole, 0.0), np.zeros((576, 0))
    for regions in (whole, split()):
        for one in (some, none):
            figures = [
                *separation.variances(one, regions),
                separation.silhouette(one, regions),
                *separation.discriminant(one, regions),
            ]
            assert np.isfinite(figures).all()
    assert separation.valley(some, whole) == 0.0
    assert separation.cosines(some, whole) == (0.0, 0.0)
    # Two regions without a difference at all: nothing speaks for two.
    assert separation.valley(np.ones((576, 3)), split()) == 1.5
