"""Paired comparisons: over the same images, and only where there is something to compare."""

from dataclasses import replace

import numpy as np
import pytest

from detecture.benchmark.layout import arrange
from detecture.benchmark.read_cells import read_cells
from detecture.benchmark.report import build_report
from detecture.benchmark.significance import compare_rows, paired_difference
from detecture.errors import ConfigError, EvaluationError


def scores(values):
    return {f"p{i}": float(value) for i, value in enumerate(values)}


def test_a_small_but_steady_difference_is_found_where_means_hide_it():
    generator = np.random.default_rng(0)
    base = generator.uniform(0.2, 0.9, 200)
    first, second = scores(base + 0.01 + generator.normal(0, 0.01, 200)), scores(base)
    result = paired_difference(first, second, 2000)
    # The means differ by 0.01, each with an interval of +- 0.03.
    assert result.low > 0
    assert result.p == pytest.approx(2 / 2001)
    assert result.difference == pytest.approx(np.mean([*first.values()]) - np.mean(base))
    assert result.low < result.difference < result.high
    assert result.n_pairs == 200


def test_the_other_way_round_is_the_negative():
    generator = np.random.default_rng(1)
    first, second = scores(generator.uniform(size=50)), scores(generator.uniform(size=50))
    one, other = paired_difference(first, second, 999), paired_difference(second, first, 999)
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p == other.p


def test_p_is_uniform_where_there_is_no_difference():
    generator = np.random.default_rng(2)
    ps = [
        paired_difference(scores(generator.normal(size=40)), scores(np.zeros(40)), 500).p
        for _ in range(200)
    ]
    assert 0.01 <= np.mean(np.array(ps) < 0.05) <= 0.11
    assert paired_difference(scores([0.5] * 4), scores([0.5] * 4), 100).p == 1.0


def test_images_without_a_partner_are_left_out_and_counted():
    first = {"a": 1.0, "b": 0.5, "only": 0.0}
    second = {"b": 0.5, "a": 0.5, "x": 1.0, "y": 1.0}
    result = paired_difference(first, second, 100)
    assert (result.n_pairs, result.n_unpaired) == (2, 3)
    assert result.difference == 0.25
    with pytest.raises(EvaluationError, match="no image in common"):
        paired_difference({"a": 1.0}, {"b": 1.0}, 10)
    with pytest.raises(EvaluationError, match="one image in common"):
        paired_difference({"a": 1.0}, {"a": 0.5}, 10)


def test_rows_are_compared_by_the_headline_metric(toy_root):
    found = {
        c.label: c
        for c in compare_rows(arrange(read_cells(toy_root / "benchmark.json")), "right", 1000)
    }
    assert list(found) == ["wrong", "failing", "absent"]
    assert {c.metric for c in found.values()} == {"mIoU"}
    assert found["wrong"].result.n_pairs == 6
    assert found["wrong"].result.difference < 0
    # A failed image is a pair like any other, with its zeros.
    assert found["failing"].result.n_pairs == 6
    assert found["failing"].result.difference == pytest.approx(-1 / 6)
    assert found["absent"].result is None
    assert found["absent"].reason == "absent is missing"


def test_results_on_other_data_are_not_compared(toy_root):
    cells = read_cells(toy_root / "benchmark.json")[:2]
    fingerprint = cells[1].summary["fingerprint"] | {"data": "other"}
    cells[1] = replace(cells[1], summary=cells[1].summary | {"fingerprint": fingerprint})
    (found,) = compare_rows(arrange(cells), "right", 100)
    assert found.result is None
    assert "different states of the data" in found.reason


def test_a_difference_that_proves_little_says_so(toy_root):
    cells = read_cells(toy_root / "benchmark.json")[:2]
    cells[1] = replace(cells[1], random_weights=True, k_access="per_image")
    (line,) = build_report(cells, "toy", against="right").comparison.rows
    assert line[-1] == (
        "wrong has random weights; told of K: the true K of each image against what the data "
        "set's regime grants"
    )


def test_the_report_says_how_many_had_no_partner(toy_root, tmp_path):
    cells = read_cells(toy_root / "benchmark.json")[:2]
    lines = (cells[1].folder / "records.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_text("".join(lines[:-2]))
    cells[1] = replace(cells[1], folder=tmp_path, summary=cells[1].summary | {"n_total": 4})
    grid = build_report(cells, "toy", against="right").comparison
    assert grid.title == "Against right"
    assert grid.rows[0][-2:] == ["4", "2 without a partner"]
    assert "2 images that only one of the two has are left out." in grid.notes


def test_an_unknown_reference_is_an_error(toy_root):
    with pytest.raises(ConfigError, match="'left' is not in this benchmark; use one of 'right'"):
        build_report(read_cells(toy_root / "benchmark.json"), "toy", against="left")
