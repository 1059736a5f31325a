"""Scores of annotations: the golden figures of the published formulas, and what ours mends."""

import time

import numpy as np
import pytest
from PIL import Image

from detecture.data.image_io import read_label_map
from detecture.miner.kinds import ade20k_names, kinds_of
from detecture.miner.score.annotation import (
    score_labels,
    score_regions,
    score_segments,
    unscored,
)
from detecture.miner.score.components import components, pair_lengths, runs_of
from detecture.miner.score.geometry import Geometry, class_geometry
from detecture.miner.score.published_paths import two_sided_lengths
from detecture.miner.score.review import review_score, selection_of
from detecture.miner.score.segments import Segment, segment_kind
from detecture.miner.score.settings import ScoreSettings, as_published
from detecture.miner.score.statistics import MaskStatistics

W, B, S, F, G, P = 1, 2, 3, 4, 10, 13
OURS, PUBLISHED = ScoreSettings(), ScoreSettings.published()
NAMES = ade20k_names()
KINDS = kinds_of(NAMES, source="ade20k")
PUBLISHED_KINDS = kinds_of(NAMES, table="published")
close = pytest.approx


def published(labels):
    return score_labels(labels, PUBLISHED_KINDS, PUBLISHED)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((120, 0, 0, 0.55, 4), 100),
        ((0, 0, 0, 0, 0), 42.0),
        ((80, 0.6, 0.02, 0.30, 2.0), 42.331002),
        ((6, 0.4, 0.1, 0, 2.0), 16.630769),
        ((10, 0.3, 0.05, 0.2, 2.5), 29.301865),
    ],
)
def test_the_formula_of_s_a(values, expected):
    names = ("count", "largest", "median", "small", "entropy")
    found = MaskStatistics(**dict(zip(names, values, strict=True))).score
    assert found == close(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((3, 2, 0.35, 0.6, 0), 95.2),
        ((2, 1, 0.1, 0.3, 0.05), 44.010262),
        ((5, 6, 1, 0.8, 1.0), 24.4),
        ((3, 2, 0.35, 0.6, 0.2), 73.304),
        ((0, 0, 0, 0, 0), 0),
    ],
)
def test_the_formula_of_s_geom(values, expected):
    names = ("large", "strong", "boundary", "balance", "object_fraction")
    found = Geometry(**dict(zip(names, values, strict=True))).score
    assert found == close(expected, abs=1e-6)


def columns(*parts):
    """A map of 100 x 100: labels with the columns behind their last one."""
    labels = np.zeros((100, 100), np.int32)
    first = 0
    for label, end in parts:
        labels[:, first:end] = label
        first = end
    return labels


def quadrants():
    labels = np.zeros((100, 100), np.int32)
    labels[:50, :50], labels[:50, 50:] = W, F
    labels[50:, :50], labels[50:, 50:] = G, S
    return labels


def with_person():
    labels = columns((W, 50), (F, 100))
    labels[40:60, 40:60] = P
    return labels


def diagonal_blocks():
    labels = np.full((100, 100), G, np.int32)
    labels[:50, :50] = labels[50:, 50:] = W
    return labels


GOLDEN = {
    "halves": (
        columns((W, 50), (F, 100)),
        (2, 0.5, 0.5, 1),
        (2, 1, 0.25, 0.5),
        (0, 1, 0),
        (9.005128, 60.238095, 66.943883, True),
    ),
    "thirds": (
        columns((W, 34), (F, 67), (G, 100)),
        (3, 0.34, 0.33, 1.584819),
        (3, 2, 0.5, 0.66),
        (0, 1, 0),
        (16.900610, 95.92, 89.932122, True),
    ),
    "quadrants": (
        quadrants(),
        (4, 0.25, 0.25, 2),
        (4, 4, 0.5, 0.75),
        (0, 1, 0),
        (21.702564, 97.0, 91.540513, True),
    ),
    "person": (
        with_person(),
        (3, 0.48, 0.48, 1.202292),
        (2, 1, 0.2, 0.5),
        (0.04, 0.96, 0),
        (10.583800, 53.923714, 54.345274, False),
    ),
    "wall": (
        columns((W, 100)),
        (1, 1, 1, 0),
        (1, 0, 0, 0),
        (0, 1, 0),
        (0.233333, 9.333333, 13.646667, False),
    ),
    "building": (
        columns((W, 50), (B, 100)),
        (2, 0.5, 0.5, 1),
        (1, 0, 0, 0),
        (0, 0.5, 0.5),
        (9.005128, 9.333333, 0, False),
    ),
    "partly unlabelled": (
        columns((W, 50), (F, 90)),
        (2, 0.5, 0.45, 0.991076),
        (2, 1, 0.25, 0.444444),
        (0, 0.9, 0),
        (8.978356, 59.571429, 60.824243, True),
    ),
    "diagonal": (
        diagonal_blocks(),
        (2, 0.5, 0.5, 1),
        (2, 1, 0.5, 0.5),
        (0, 1, 0),
        (9.005128, 67.666667, 71.401026, True),
    ),
    "unlabelled": (columns(), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0), (42.0, 0, 0, False)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_published_scores_of_whole_maps(name):
    labels, masks, regions, fractions, scores = GOLDEN[name]
    found = published(labels)
    statistics = found["statistics"]
    names = ("count", "largest", "median", "entropy")
    assert [statistics[n] for n in names] == close(masks, abs=1e-6)
    names = ("large", "strong", "boundary", "balance")
    assert [statistics[n] for n in names] == close(regions, abs=1e-6)
    names = ("object_fraction", "texture_fraction", "ambiguous_fraction")
    assert [statistics[n] for n in names] == close(fractions, abs=1e-6)
    assert [found[n] for n in ("s_a", "s_geom", "review")] == close(scores[:3], abs=1e-6)
    assert statistics["passes"] is scores[3]
    assert found["size"] == [100, 100]


def test_published_scores_of_a_binary_map_count_both_sides():
    labels = columns((1, 50), (2, 100))
    kinds = kinds_of({1: "texture 1", 2: "texture 2"})
    found = score_labels(labels, kinds, PUBLISHED, binary=True)
    assert found["statistics"]["boundary"] == 0.5
    assert found["s_geom"] == close(67.666667, abs=1e-6)
    assert found["review"] == close(71.401026, abs=1e-6)
    # Ours measures boundaries in one way.
    ours = score_labels(labels, kinds, OURS, binary=True)
    assert ours["s_geom"] == close(60.238095, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((40, 80, 0, 0.9, 0.02, 3, 2), 76.885714),
        ((20, 60, 0.05, 0.7, 0.05, 2, 1), 37.217143),
        ((20, 95, 0, 1, 0, 6, 5), 82.0),
        ((20, 95, 0, 1, 0, 8, 5), 74.0),
        ((20, 95, 0.1, 0.9, 0, 3, 3), 66.645714),
        ((35, 0, 0, 0, 0, 0, 0), 0),
    ],
)
def test_the_formula_of_the_review_score(values, expected):
    assert review_of(values) == close(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((20.933, 96.264, 0, 0.986319, 0, 4, 3), 90.163),
        ((18.779, 95.866, 0, 0.991748, 0, 4, 5), 89.804),
        ((19.623, 95.665, 0, 0.986569, 0, 4, 3), 89.556),
        ((17.167, 95.493, 0, 0.993117, 0, 4, 3), 89.336),
        ((17.209, 95.504, 0, 0.992412, 0, 3, 3), 89.311),
        ((18.649, 95.375, 0, 0.988259, 0, 4, 3), 89.284),
        ((11.295, 96.138, 0, 0.979155, 0, 4, 4), 87.7507),
    ],
)
def test_rows_that_were_published(values, expected):
    assert review_of(values) == close(expected, abs=1e-3)


def review_of(values):
    s_a, s_geom, objects, texture, ambiguous, large, strong = values
    geometry = Geometry(
        large=large,
        strong=strong,
        object_fraction=objects,
        texture_fraction=texture,
        ambiguous_fraction=ambiguous,
    )
    return review_score(s_a, s_geom, geometry)


def test_ours_does_not_depend_on_the_resolution():
    small = np.zeros((60, 80), np.int32)
    small[:, :30], small[:30, 30:], small[30:, 30:] = W, F, G
    small[20:24, 20:24] = P
    for factor in (2, 5):
        large = np.kron(small, np.ones((factor, factor), np.int32))
        ours, theirs = (score_labels(m, KINDS, OURS) for m in (small, large))
        assert theirs["review"] == close(ours["review"], abs=1e-9)
        assert theirs["statistics"] == close(ours["statistics"])
    strong = [published(m)["statistics"]["strong"] for m in (small, large)]
    assert strong[0] < strong[1]  # 40 pixels are more on a small image


def test_a_boundary_is_strong_from_a_sixtieth_of_the_perimeter():
    labels = np.zeros((30, 30), np.int32)
    labels[:2, :15], labels[:2, 15:] = W, F  # 2 of 120 pixels
    settings = ScoreSettings(large_region=0.01)
    assert score_labels(labels, KINDS, settings)["statistics"]["strong"] == 1
    settings = ScoreSettings(large_region=0.01, strong_boundary=2.1 / 120)
    assert score_labels(labels, KINDS, settings)["statistics"]["strong"] == 0


def test_an_image_without_labels_has_no_score():
    found = score_labels(columns(), KINDS, OURS)
    assert found["status"] == "unlabelled"
    assert (found["s_a"], found["s_geom"], found["review"]) == (0, 0, 0)
    assert found["selected"] == "rejected"
    for settings in (OURS, PUBLISHED):
        bad = unscored("unreadable", settings)
        assert bad["status"] == "unreadable"
        assert (bad["s_a"], bad["review"], bad["selected"]) == (0, 0, "rejected")


def test_a_class_that_says_nothing_is_no_label():
    kinds = kinds_of({1: "wall", 2: "unknown"})
    labels = columns((1, 50), (2, 100))
    assert score_labels(labels, kinds, OURS)["statistics"]["count"] == 1
    assert score_labels(labels, kinds, PUBLISHED)["statistics"]["count"] == 2
    assert score_labels(columns((2, 100)), kinds, OURS)["status"] == "unlabelled"


def test_the_reviewed_table_is_kind_to_ceilings():
    labels = columns((6, 50), (4, 100))  # ceiling, floor
    assert published(labels)["review"] == 0
    assert score_labels(labels, KINDS, OURS)["selected"] == "selected"


def test_selection():
    assert [selection_of(s, OURS) for s in (65, 64.9, 50, 49.9)] == [
        "selected",
        "borderline",
        "borderline",
        "rejected",
    ]
    assert selection_of(60, PUBLISHED) == "selected"


def slow_components(labels, wanted):
    """Flood fill, pixel by pixel."""
    found = np.zeros(labels.shape, int)
    for start in zip(*np.nonzero(wanted), strict=True):
        if found[start]:
            continue
        todo, number = [start], found.max() + 1
        found[start] = number
        while todo:
            y, x = todo.pop()
            for v in range(max(y - 1, 0), min(y + 2, labels.shape[0])):
                for u in range(max(x - 1, 0), min(x + 2, labels.shape[1])):
                    if wanted[v, u] and not found[v, u] and labels[v, u] == labels[y, x]:
                        found[v, u] = number
                        todo.append((v, u))
    return found


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 5), (12, 13), (16, 16)])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_components_are_those_of_a_flood_fill(size, classes):
    labels = np.random.default_rng(classes).integers(0, classes, size)
    wanted = labels != 0
    runs = runs_of(labels)
    found = runs.painted(components(runs, runs.values_R != 0))
    expected = slow_components(labels, wanted)
    pairs = set(zip(found.ravel(), expected.ravel(), strict=True))
    assert len(pairs) == len(np.unique(found)) == len(np.unique(expected))
    assert np.array_equal(found == 0, ~wanted)


def test_lengths_of_boundaries_are_those_of_a_loop():
    regions = np.random.default_rng(0).integers(0, 4, (9, 11)).astype(np.uint8)
    lengths, sides = {}, {}
    for y, x in np.ndindex(9, 11):
        for v, u in ((y, x + 1), (y + 1, x)):
            if v == 9 or u == 11 or regions[y, x] == regions[v, u]:
                continue
            pair = tuple(sorted((int(regions[y, x]), int(regions[v, u]))))
            if pair[0] > 0:
                lengths[pair] = lengths.get(pair, 0) + 1
                sides.setdefault(pair, set()).update({(y, x), (v, u)})
    assert pair_lengths(regions) == lengths
    assert two_sided_lengths(regions) == {pair: len(found) for pair, found in sides.items()}


def test_many_large_regions_do_not_wrap_around():
    labels = np.zeros((320, 320), np.int32)
    labels[::2] = np.where(np.arange(320)[None] % 2, W, F)[:1]
    settings = ScoreSettings(large_region=1e-7)
    found = class_geometry(runs_of(labels), KINDS, settings)
    assert found.large == 160 * 320


def segment(mask, **more):
    rows, cols = np.nonzero(mask)
    box = (cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1)
    flat = np.ravel(mask, order="F")
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    rle = {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}
    return Segment(area=float(mask.sum()), box=tuple(map(float, box)), rle=rle, **more)


def block(rows, cols, size=(100, 100)):
    mask = np.zeros(size, bool)
    mask[slice(*rows), slice(*cols)] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "more", "kind"),
    [
        (block((0, 5), (0, 5)), {}, "object"),  # tiny
        (np.eye(100, dtype=bool), {}, "object"),  # fills a hundredth of its box
        (block((50, 53), (10, 90)), {}, "object"),  # thin, not at the border
        (block((0, 4), (0, 100)), {}, "ambiguous"),  # thin, at the border, above 0.012
        (block((30, 60), (30, 60)), {}, "object"),  # compact, in the middle
        (block((30, 60), (30, 60)), {"predicted_iou": 0.87, "stability": 0.95}, "texture"),
        (block((30, 60), (30, 60)), {"predicted_iou": 0.5}, "ambiguous"),
        (block((0, 50), (0, 100)), {}, "texture"),
        (block((0, 6), (0, 100)), {"predicted_iou": 0.5}, "texture"),  # thin, but at the border
        (block((0, 20), (0, 30)), {"predicted_iou": 0.5}, "texture"),  # at the border
    ],
)
def test_kinds_of_segments(mask, more, kind):
    assert segment_kind(segment(mask, **more), (100, 100)) == kind


@pytest.mark.parametrize("settings", [OURS, PUBLISHED])
def test_scores_of_segments(settings):
    parts = [block((0, 100), (0, 50)), block((0, 100), (50, 100)), block((40, 60), (40, 60))]
    found = score_segments([segment(p) for p in parts], (100, 100), settings)
    statistics = found["statistics"]
    assert (statistics["count"], statistics["large"], statistics["strong"]) == (3, 2, 1)
    assert statistics["object_fraction"] == close(0.04)
    assert statistics["texture_fraction"] == close(0.96)
    assert statistics["boundary"] == close(80 / 400 * (2 if as_published(settings) else 1))
    assert found["status"] == "ok"


def test_segments_are_drawn_on_a_small_raster():
    parts = [block((0, 200), (0, 100), (200, 200)), block((0, 200), (100, 200), (200, 200))]
    segments = [segment(p) for p in parts]
    small = score_segments(segments, (200, 200), ScoreSettings(long_side=50))
    assert small["statistics"] == score_segments(segments, (200, 200), OURS)["statistics"]
    assert score_segments([], (10, 10), OURS)["status"] == "unlabelled"


@pytest.mark.parametrize("settings", [OURS, PUBLISHED])
def test_scores_of_maps_of_regions(settings):
    labels = np.full((100, 100), 7, np.int32)
    labels[:, 50:80], labels[:, 80:83], labels[:5, :5], labels[:, 83:] = 900, 3, 1, -1
    found = score_regions(labels, settings)
    statistics = found["statistics"]
    # 25 pixels are below the published least of 64.
    assert statistics["count"] == (3 if as_published(settings) else 4)
    assert statistics["large"] == 2
    small = 0.0 if as_published(settings) else 0.0025
    assert statistics["ambiguous_fraction"] == close(0.03 + small)
    assert statistics["texture_fraction"] == close(0.7975)
    assert statistics["strong"] == 1
    assert statistics["boundary"] == close(100 / 400 * (2 if as_published(settings) else 1))


def test_regions_below_the_limit_are_taken_where_fewer_than_two_are_above():
    labels = np.full((100, 100), 1, np.int32)
    labels[:, :3] = 2
    found = score_regions(labels, OURS)["statistics"]
    assert (found["large"], found["ambiguous_fraction"]) == (1, 0)
    assert score_regions(np.zeros((4, 4), np.int32), OURS)["status"] == "unlabelled"


def test_speed(tmp_path):
    """Reading included; the figure is printed, not asserted."""
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, [512, 683], (60, 2))
    grid = np.stack(np.mgrid[:512, :683], -1)
    wobble = rng.normal(0, 2, grid.shape)
    distances = [((grid + wobble - seed) ** 2).sum(-1) for seed in seeds]
    labels = rng.integers(0, 30, 60)[np.argmin(distances, 0)].astype(np.uint8)
    path = tmp_path / "labels.png"
    Image.fromarray(labels).save(path)
    start = time.process_time()
    for _ in range(20):
        score_labels(read_label_map(path, 1 << 24), KINDS, OURS)
    print(f"{20 / (time.process_time() - start):.0f} label maps of 512x683 a second")
