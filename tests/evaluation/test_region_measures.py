"""Region measures against hand-computed cases and against definitions, pair of pixels by pair."""

import itertools
import math

import numpy as np
import pytest

from detecture.evaluation.region_measures import (
    Contingency,
    RegionMap,
    human_agreement,
    measures,
    score_regions,
)

ONE = np.zeros((4, 4), np.int64)
HALVES = ONE + (np.arange(4) >= 2)  # left and right
QUARTERS = HALVES + 2 * (np.arange(4) >= 2)[:, None]
SINGLES = np.arange(16).reshape(4, 4)


def of(predicted, true):
    found = measures(Contingency.of(RegionMap.of(predicted), RegionMap.of(true)))
    return found.covering, found.pri, found.vi


def by_definition(predicted, true):
    """Covering by masks, PRI over all pairs of pixels, VI from entropies of joint counts."""
    p, t = predicted.ravel().tolist(), true.ravel().tolist()
    count = len(p)
    covering = 0.0
    for value in set(t):
        mine = {i for i in range(count) if t[i] == value}
        best = 0.0
        for other in set(p):
            theirs = {i for i in range(count) if p[i] == other}
            best = max(best, len(mine & theirs) / len(mine | theirs))
        covering += len(mine) * best / count
    pairs = list(itertools.combinations(range(count), 2))
    pri = sum((p[i] == p[j]) == (t[i] == t[j]) for i, j in pairs) / len(pairs)

    def entropy(values):
        shares = [values.count(value) / count for value in set(values)]
        return -sum(share * math.log2(share) for share in shares)

    joint = list(zip(p, t, strict=True))
    mutual = entropy(p) + entropy(t) - entropy(joint)
    return covering, pri, entropy(p) + entropy(t) - 2 * mutual


@pytest.mark.parametrize(
    ("predicted", "true", "due"),
    [
        (ONE, ONE, (1, 1, 0)),
        (HALVES, HALVES, (1, 1, 0)),
        (SINGLES, SINGLES, (1, 1, 0)),
        # Of 120 pairs the 2 * 28 within a half are together in both.
        (ONE, HALVES, (0.5, 56 / 120, 1)),
        (HALVES, ONE, (0.5, 56 / 120, 1)),
        # The 4 * 6 within a quarter, and the 64 between the halves.
        (QUARTERS, HALVES, (0.5, (24 + 64) / 120, 1)),
        (ONE, QUARTERS, (0.25, 24 / 120, 2)),
        # Left against top: each half meets each other one in a quarter.
        (HALVES, HALVES.T, (4 / 12, (24 + 32) / 120, 2)),
        (ONE, SINGLES, (1 / 16, 0, 4)),
        (SINGLES, HALVES, (1 / 8, 64 / 120, 3)),
    ],
)
def test_cases_by_hand(predicted, true, due):
    assert of(predicted, true) == pytest.approx(due, abs=1e-12)
    assert by_definition(predicted, true) == pytest.approx(due, abs=1e-12)


def test_covering_has_a_direction():
    """A region of 3 and one of 1 of 4 pixels: covered by one region, and covering one."""
    uneven, whole = np.array([[1, 1, 1, 2]]), np.array([[1, 1, 1, 1]])
    assert of(whole, uneven)[0] == pytest.approx((3 * 3 / 4 + 1 * 1 / 4) / 4)
    assert of(uneven, whole)[0] == pytest.approx(3 / 4)


def test_equal_divisions_are_equal_to_the_last_digit():
    labels = np.random.default_rng(3).integers(0, 40, (321, 481))
    assert of(labels, labels * 7 + 3) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("seed", range(30))
def test_against_the_definitions(seed):
    draw = np.random.default_rng(seed)
    size = tuple(draw.integers(1, 8, 2))
    size = (1, 2) if size == (1, 1) else size
    # Numbers with gaps, of another type each.
    predicted = draw.integers(0, draw.integers(1, 9), size).astype(np.int32) * 11
    true = draw.integers(0, draw.integers(1, 9), size).astype(np.uint16) * 300 + 5
    assert of(predicted, true) == pytest.approx(by_definition(predicted, true), abs=1e-9)
    table = Contingency.of(RegionMap.of(predicted), RegionMap.of(true)).transposed()
    found = measures(table)
    due = by_definition(true, predicted)
    assert (found.covering, found.pri, found.vi) == pytest.approx(due, abs=1e-9)


def test_a_single_pixel():
    assert of(np.array([[7]]), np.array([[0]])) == (1, 1, 0)


def test_the_greatest_vi_is_the_logarithm_of_the_pixels():
    draw = np.random.default_rng(0)
    worst = max(
        of(draw.integers(0, 16, (4, 4)), draw.integers(0, 16, (4, 4)))[2] for _ in range(99)
    )
    assert worst <= of(ONE, SINGLES)[2] == 4


def test_measures_of_reduced_maps_are_others():
    """Every tenth pixel of a map of fine regions tells another story: native size it must be."""
    tile = np.kron(np.arange(6).reshape(2, 3), np.ones((50, 50), int))
    fine = (np.arange(150) // 5 % 2)[None] + 2 * tile
    whole, reduced = of(fine, tile), of(fine[::10, ::10], tile[::10, ::10])
    assert reduced == (1, 1, 0)
    assert whole[1] < 0.95 and whole[2] == pytest.approx(1)


def test_several_annotators_are_averaged():
    truths = [RegionMap.of(labels) for labels in (ONE, HALVES, QUARTERS)]
    found = score_regions(RegionMap.of(HALVES), truths)
    each = [of(HALVES, labels) for labels in (ONE, HALVES, QUARTERS)]
    assert (found.covering, found.pri, found.vi) == pytest.approx(np.mean(each, axis=0))


def test_people_among_themselves():
    maps = (ONE, HALVES, QUARTERS)
    found = human_agreement([RegionMap.of(labels) for labels in maps])
    each = [of(a, b) for a, b in itertools.permutations(maps, 2)]
    assert len(each) == 6
    assert (found.covering, found.pri, found.vi) == pytest.approx(np.mean(each, axis=0))
    assert human_agreement([RegionMap.of(ONE)]) is None


def test_connected_parts():
    labels = np.array([[5, 5, 0, 5], [0, 0, 5, 0], [0, 0, 0, 0]])
    parts = RegionMap.of(labels).parts()
    # 5 in three pieces, of which two meet at a corner alone; 0 in two.
    assert parts.count == 5
    due = np.array([[0, 0, 1, 2], [3, 3, 4, 3], [3, 3, 3, 3]])
    assert (RegionMap.of(due).labels_HW == parts.labels_HW).all()
    assert RegionMap.of(ONE).parts().count == 1


@pytest.mark.parametrize(
    "labels",
    [np.zeros((2, 2)), np.zeros((2, 2), bool), np.zeros((0, 3), int), np.zeros((1, 2, 3), int)],
)
def test_what_is_no_label_map(labels):
    with pytest.raises(ValueError, match="no label map"):
        RegionMap.of(labels)


def test_other_sizes_and_no_annotator():
    with pytest.raises(ValueError, match="divisions of"):
        of(ONE, ONE[:2])
    with pytest.raises(ValueError, match="no annotator"):
        score_regions(RegionMap.of(ONE), [])
