"""The scorer against the golden table, a plain reference and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from detecture.evaluation import adjusted_rand_index, score_label_map, scores_to_label_map
from detecture.evaluation.label_map import InvalidOutput

MISSING = -1.0e4


def rows(*values):
    """One channel whose four rows are all `values`."""
    return np.tile(np.array(values, dtype=np.float32), (4, 1))


def mask(*where):
    """4x4 mask that is true in the given (row slice, column slice) places."""
    result = np.zeros((4, 4), dtype=bool)
    for r, c in where:
        result[r, c] = True
    return result


ALL = slice(None)
LEFT, RIGHT = mask((ALL, slice(0, 2))), mask((ALL, slice(2, 4)))
TOP_LEFT, BOTTOM_LEFT = mask((slice(0, 2), slice(0, 2))), mask((slice(2, 4), slice(0, 2)))
CENTRE, WHOLE = mask((slice(1, 3), slice(1, 3))), mask((ALL, ALL))
ROW0, ROW1, ROWS23 = mask((0, ALL)), mask((1, ALL)), mask((slice(2, 4), ALL))
PAD = np.full((4, 4), MISSING, dtype=np.float32)


def as_scores(m):
    return np.where(m, 5.0, -5.0).astype(np.float32)


def soft(p):
    return 5.0 * (2.0 * p - 1.0)


G1 = [rows(2, 1, -1, -2), rows(-3, -1, 0.5, 3)]
G2 = [G1[1].copy(), G1[0].copy()]
for channel in G2:
    channel[0, 0] = -1.0
INVERSE = rows(3, 0, -1, -2)
TEN_PIXELS = ROWS23 | mask((1, slice(2, 4)))

# name: channels, ground truth, dustbin logit, (matched, panoptic, matched Dice, ARI, coverage)
GOLDEN = {
    "G1": (G1, [LEFT, RIGHT], 0.0, (1, 1, 1, 1, 0)),
    "G2": (G2, [LEFT, RIGHT], 0.0, (0.9375, 0.9375, 0.966667, 0.881890, 0.0625)),
    "G3": ([as_scores(LEFT), PAD], [LEFT, RIGHT], 0.0, (0.5, 0.5, 0.5, 1.0, 0.5)),
    "G4": ([PAD, PAD], [LEFT, RIGHT], 0.0, (0, 0, 0, 0, 1)),
    "G5": (
        [as_scores(TOP_LEFT), as_scores(BOTTOM_LEFT), as_scores(RIGHT)],
        [LEFT, RIGHT],
        0.0,
        (0.75, 0.5, 0.833333, 0.727273, 0),
    ),
    "G6": ([as_scores(ROWS23)], [ROW0, ROW1, ROWS23], 0.0, (1, 0.333333, 1, 0.727273, 0.5)),
    "G7": (
        [as_scores(WHOLE), as_scores(CENTRE)],
        [~CENTRE, CENTRE],
        0.0,
        (0.375, 0.375, 0.428571, 0, 0),
    ),
    "G7b": ([as_scores(CENTRE), as_scores(WHOLE)], [~CENTRE, CENTRE], 0.0, (1, 1, 1, 1, 0)),
    "G8": ([INVERSE, -INVERSE], [LEFT, RIGHT], 0.0, (1, 1, 1, 1, 0)),
    "G9": (
        [rows(2, 2, 2, 2), -rows(2, 2, 2, 2)],
        [LEFT, RIGHT],
        0.0,
        (0.25, 0.25, 0.333333, 0, 0),
    ),
    "G10": ([as_scores(TEN_PIXELS)], [ROWS23], 0.0, (0.8, 0.8, 0.888889, 0.533333, 0.375)),
    "G11": ([as_scores(WHOLE)], [LEFT], 0.0, (0.5, 0.5, 0.666667, 0, 0)),
    "G12": (
        [soft(rows(0.9, 0.6, 0.5, 0.1)), soft(rows(0.2, 0.55, 0.5, 0.8))],
        [LEFT, RIGHT],
        0.0,
        (0.583333, 0.583333, 0.733333, 0.210526, 0),
    ),
    "G13": (
        [as_scores(LEFT), as_scores(RIGHT)],
        [mask((ALL, slice(0, 3))), mask((ALL, slice(1, 4)))],
        0.0,
        (0.666667, 0.666667, 0.8, 0.210526, 0),
    ),
    "G15": (G1, [LEFT, RIGHT], 1.0, (0.75, 0.75, 0.833333, 0.727273, 0.25)),
}


def score(channels, masks, dustbin=0.0):
    scores = np.stack([*channels, np.full((4, 4), dustbin, dtype=np.float32)])
    label_map = scores_to_label_map(torch.from_numpy(scores))
    return score_label_map(label_map, len(channels), np.stack(masks))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_table(name):
    channels, masks, dustbin, expected = GOLDEN[name]
    result = score(channels, masks, dustbin)
    found = (
        result.matched_iou,
        result.panoptic_iou,
        result.matched_dice,
        result.ari,
        result.dustbin_coverage,
    )
    assert found == pytest.approx(expected, abs=1e-6)


def test_golden_assignments():
    assert score(*GOLDEN["G2"][:2]).assignment == ((0, 1), (1, 0))
    assert sorted(score(*GOLDEN["G2"][:2]).iou_KM.ravel()) == [0.0, 0.0, 0.875, 1.0]
    np.testing.assert_allclose(
        score(*GOLDEN["G5"][:2]).iou_KM, [[0.5, 0], [0.5, 0], [0, 1]], atol=1e-12
    )


def test_hungarian_is_not_greedy():
    # 20 pixels in a row: IoU .6 for (0,0) is the best single pair, and part of no best pairing.
    iou = np.array([[0.6, 0.5], [0.55, 0.1]])
    pairs = list(zip(*linear_sum_assignment(1 - iou), strict=True))
    assert pairs == [(0, 1), (1, 0)]
    width = 200
    gt = np.zeros((2, 1, width), dtype=bool)
    gt[0, 0, :100], gt[1, 0, 100:] = True, True
    label_map = np.zeros((1, width), dtype=np.int32)
    label_map[0, :75], label_map[0, 75:200] = 2, 1  # 1 covers 25 of gt0 and all of gt1
    result = score_label_map(label_map, 2, gt)
    assert result.assignment == ((0, 1), (1, 0))
    assert result.matched_iou == pytest.approx((100 / 125 + 75 / 100) / 2)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (np.zeros((4, 4)), np.zeros((4, 4)), 1.0),
        (np.zeros((4, 4)), LEFT, 0.0),
        (LEFT, ROWS23, -0.0714286),
    ],
)
def test_ari_edges(first, second, expected):
    assert adjusted_rand_index(contingency(first, second)) == pytest.approx(expected, abs=1e-6)


def contingency(first, second):
    table = np.zeros((int(first.max()) + 1, int(second.max()) + 1), dtype=np.int64)
    np.add.at(table, (first.ravel().astype(int), second.ravel().astype(int)), 1)
    return table


def test_ari_equals_scikit_learn_on_200_random_maps():
    generator = np.random.default_rng(0)
    for _ in range(200):
        k, m = generator.integers(1, 8, size=2)
        size = tuple(generator.integers(1, 24, size=2))
        label_map = generator.integers(0, k + 1, size=size).astype(np.int32)
        masks = generator.random((m, *size)) < generator.uniform(0.1, 0.7)
        painted = np.zeros(size, dtype=int)
        for index, one in enumerate(masks):
            painted[one] = index + 1
        expected = adjusted_rand_score(painted.ravel(), label_map.ravel())
        found = score_label_map(label_map, int(k), masks).ari
        assert found == pytest.approx(expected, abs=1e-12)


def reference(label_map, k_pred, masks):
    """The definitions, pair by pair."""
    iou = np.zeros((k_pred, len(masks)))
    dice = np.zeros((k_pred, len(masks)))
    for i in range(k_pred):
        for j, truth in enumerate(masks):
            found = label_map == i + 1
            union = (found | truth).sum()
            iou[i, j] = (found & truth).sum() / union if union else 0.0
            area = found.sum() + truth.sum()
            dice[i, j] = 2 * (found & truth).sum() / area if area else 0.0
    pairs = list(zip(*linear_sum_assignment(1 - iou), strict=True))
    ious, dices = [iou[p] for p in pairs], [dice[p] for p in pairs]
    larger = max(k_pred, len(masks))
    painted = np.zeros(label_map.shape, dtype=int)
    for index, one in enumerate(masks):
        painted[one] = index + 1
    return {
        "matched_iou": np.mean(ious) if pairs else 0.0,
        "panoptic_iou": np.sum(ious) / larger if larger else 0.0,
        "matched_dice": np.mean(dices) if pairs else 0.0,
        "panoptic_dice": np.sum(dices) / larger if larger else 0.0,
        "ari": adjusted_rand_score(painted.ravel(), label_map.ravel()) if len(masks) else 0.0,
        "dustbin_coverage": (label_map == 0).mean(),
    }


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k_pred=st.integers(0, 20),
    k_gt=st.integers(0, 19),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
)
def test_fast_scores_equal_the_reference(seed, k_pred, k_gt, height, width):
    generator = np.random.default_rng(seed)
    label_map = generator.integers(0, k_pred + 1, size=(height, width)).astype(np.int32)
    masks = generator.random((k_gt, height, width)) < generator.uniform(0.0, 0.8)
    result = score_label_map(label_map, k_pred, masks)
    for name, expected in reference(label_map, k_pred, masks).items():
        assert getattr(result, name) == pytest.approx(expected, abs=1e-9), name
    assert result.panoptic_iou <= result.matched_iou + 1e-12
    if k_pred == k_gt:
        assert result.panoptic_iou == pytest.approx(result.matched_iou)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 6))
def test_order_of_predictions_does_not_matter(seed, k):
    generator = np.random.default_rng(seed)
    label_map = generator.integers(0, k + 1, size=(9, 11)).astype(np.int32)
    masks = generator.random((3, 9, 11)) < 0.4
    order = np.concatenate([[0], 1 + generator.permutation(k)])
    first, second = (score_label_map(m, k, masks) for m in (label_map, order[label_map]))
    for name in ("matched_iou", "panoptic_iou", "matched_dice", "ari", "dustbin_coverage"):
        # Equal sums of IoUs may come from other pairs, whose Dice then differs.
        if name == "matched_dice" and len(set(first.iou_KM.ravel())) < first.iou_KM.size:
            continue
        assert getattr(first, name) == pytest.approx(getattr(second, name))


def test_an_empty_prediction_lowers_the_panoptic_scores_only():
    label_map = np.where(LEFT, 1, 2).astype(np.int32)
    masks = np.stack([LEFT, RIGHT])
    without, with_empty = (score_label_map(label_map, k, masks) for k in (2, 3))
    assert with_empty.panoptic_iou == pytest.approx(2 / 3)
    assert with_empty.matched_iou == without.matched_iou == 1.0
    assert with_empty.ari == without.ari


def test_a_higher_dustbin_never_covers_less():
    generator = torch.Generator().manual_seed(0)
    channels = torch.randn(4, 16, 16, generator=generator)
    masks = np.ones((1, 16, 16), dtype=bool)
    coverages = []
    for logit in (-3.0, -1.0, 0.0, 0.5, 1.0, 3.0):
        stack = torch.cat([channels, torch.full((1, 16, 16), logit)])
        coverages.append(score_label_map(scores_to_label_map(stack), 4, masks).dustbin_coverage)
    assert coverages == sorted(coverages)
    assert coverages[0] < coverages[-1]


def test_label_map_ties_go_to_the_lowest_channel():
    tie = torch.zeros(3, 1, 2)
    assert scores_to_label_map(tie).tolist() == [[1, 1]]
    # In single precision a softmax would call this a tie; the scores do not.
    near = torch.tensor([[[-1e-9]], [[0.0]]])
    assert scores_to_label_map(near).tolist() == [[0]]
    assert scores_to_label_map(torch.zeros(1, 2, 2)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("scores", [torch.zeros(2, 2), torch.zeros(0, 2, 2)])
def test_label_map_refuses_other_shapes(scores):
    with pytest.raises(InvalidOutput, match="K\\+1,H,W"):
        scores_to_label_map(scores)


def test_label_map_refuses_nan():
    scores = torch.zeros(3, 2, 2)
    scores[1, 0, 0] = float("nan")
    with pytest.raises(InvalidOutput, match="NaN"):
        scores_to_label_map(scores)


@pytest.mark.parametrize(
    ("label_map", "masks", "message"),
    [
        (np.zeros((2, 2), np.int32), np.zeros((1, 3, 3), bool), "against masks"),
        (np.full((2, 2), 3, np.int32), np.zeros((1, 2, 2), bool), "K is 2"),
        (np.full((2, 2), -1, np.int32), np.zeros((1, 2, 2), bool), "K is 2"),
        (np.zeros((2, 2), np.int32), np.zeros((1, 2, 2), np.uint8), "must be bool"),
        (np.zeros((0, 2), np.int32), np.zeros((1, 0, 2), bool), "no pixel"),
    ],
)
def test_scorer_refuses_what_does_not_fit(label_map, masks, message):
    with pytest.raises(ValueError, match=message):
        score_label_map(label_map, 2, masks)
