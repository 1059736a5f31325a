"""Which images are shown, and what stands in them."""

import base64
import io
import shutil

import numpy as np
import pytest
from benchmark.toy_cells import write_index
from PIL import Image
from record_files import read_lines, write_lines, write_summary

from detecture.benchmark.gallery import draw_galleries, pick_images
from detecture.benchmark.layout import arrange
from detecture.benchmark.read_cells import read_cells
from detecture.errors import ConfigError
from detecture.visualize import region_colors

MAX_PIXELS = 10_000_000


def galleries(root, count=12, chosen_by=None):
    return draw_galleries(
        arrange(read_cells(root / "benchmark.json")), count, MAX_PIXELS, chosen_by
    )


def panels(row):
    return {panel.title: panel for panel in row.panels}


def pixels(uri):
    head, data = uri.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.fixture
def own_root(toy_root, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(toy_root, tmp_path / "benchmark")


def test_worst_median_and_best_of_every_method_in_turn():
    scores = {
        "a": {f"p{i}": i / 10 for i in range(9)},
        "b": {f"p{i}": 1 - i / 10 for i in range(9)},
    }
    picks = pick_images(scores, 7)
    assert [(pick.image_id, list(pick.reasons)) for pick in picks] == [
        ("p0", ["worst of a", "best of b"]),
        ("p4", ["median of a", "median of b"]),
        ("p8", ["best of a", "worst of b"]),
        ("p1", ["worst of a"]),
        ("p5", ["median of a"]),
        ("p7", ["best of a"]),
        ("p3", ["median of b"]),
    ]


@pytest.mark.parametrize(("count", "found"), [(0, 0), (1, 1), (5, 5), (99, 9)])
def test_no_more_images_than_asked_for_and_none_twice(count, found):
    scores = {name: {f"p{i}": (i * 7) % 9 / 9 for i in range(9)} for name in "abcd"}
    ids = [pick.image_id for pick in pick_images(scores, count)]
    assert len(ids) == len(set(ids)) == found
    assert pick_images({}, 5) == []
    assert pick_images({"a": {}}, 5) == []


def test_all_methods_side_by_side_with_scores_and_sentences(toy_root):
    (gallery,) = galleries(toy_root)
    assert gallery.column.headline == "mIoU"
    assert sorted(row.image_id for row in gallery.rows) == [f"toy_{i}" for i in range(6)]
    assert gallery.problems == ["absent: no images, the cell is missing"]
    rows = {row.image_id: row for row in gallery.rows}
    found = panels(rows["toy_0"])
    assert list(found) == ["image", "ground truth", "right", "wrong", "failing"]
    assert found["right"].lines[0] == "mIoU 1.000"
    assert float(found["wrong"].lines[0].split()[1]) < 0.5
    assert found["ground truth"].lines == ["K 2"]
    assert [s.text for s in found["ground truth"].sentences] == [
        "Texture of strip 0",
        "Texture of strip 1",
    ]
    assert found["wrong"].sentences == []
    failed = panels(rows["toy_2"])["failing"]
    assert failed.image == ""
    assert failed.lines[-1] == "exception <b>out of memory</b>"


def test_a_right_answer_looks_like_the_truth_and_its_sentences_have_its_colors(toy_root):
    (gallery,) = galleries(toy_root)
    found = panels(next(row for row in gallery.rows if row.image_id == "toy_1"))
    truth, right = (pixels(found[name].image) for name in ("ground truth", "right"))
    assert np.abs(truth.astype(int) - right).max() == 0
    # Predicted textures are numbered the other way round, so their colours are swapped back.
    first, second = (f"#{bytes(color.tolist()).hex()}" for color in region_colors(2)[1:])
    assert [s.color for s in found["ground truth"].sentences] == [first, second]
    assert [s.color for s in found["right"].sentences] == [second, first]


def test_images_by_one_method(toy_root):
    (gallery,) = galleries(toy_root, 2, "wrong")
    assert all("wrong" in why for row in gallery.rows for why in row.reasons)
    assert {row.image_id for row in gallery.rows} & {"toy_0", "toy_1"}
    assert "right" in panels(gallery.rows[0])
    with pytest.raises(ConfigError, match="'left' is not in this benchmark"):
        galleries(toy_root, 2, "left")


def test_thumbnails_are_small(toy_root):
    (gallery,) = galleries(toy_root)
    for row in gallery.rows:
        for panel in row.panels:
            assert len(panel.image) < 30_000
            assert not panel.image or max(pixels(panel.image).shape) <= 240


def test_without_label_maps_the_reason_stands_there(own_root):
    shutil.rmtree(own_root / "right/toy/label_maps")
    (gallery,) = galleries(own_root, 1)
    panel = panels(gallery.rows[0])["right"]
    assert panel.image == ""
    assert panel.lines[-1] == "no label map is there (TEST.SAVE_LABEL_MAPS)"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"assignment": [[0, ', '"assignment": [[7, '),
        ('"assignment": [[', '"assignment": ["x", ['),
        ('"k_pred": 2', '"k_pred": 1'),
    ],
)
def test_a_record_that_does_not_fit_is_a_line_of_text(own_root, old, new):
    path = own_root / "right/toy/records.jsonl"
    write_lines(path, read_lines(path))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    (gallery,) = galleries(own_root, 2)
    for row in gallery.rows:
        assert "evaluate anew" in panels(row)["right"].lines[-1]
        assert panels(row)["wrong"].image


def test_a_damaged_label_map_is_a_line_of_text(own_root):
    for path in (own_root / "right/toy/label_maps").glob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    (gallery,) = galleries(own_root, 1)
    assert panels(gallery.rows[0])["right"].image == ""
    assert ".png" in panels(gallery.rows[0])["right"].lines[-1]


def test_missing_records_and_unknown_data_sets_are_problems_and_no_crash(own_root):
    (own_root / "right/toy/records.jsonl").unlink()
    (gallery,) = galleries(own_root, 1)
    assert any(text.startswith("right: no images: ") for text in gallery.problems)
    write_summary(own_root / "wrong/toy/summary.json", dataset="nobodys")
    write_index(own_root, [{"method": "w", "dataset": "nobodys", "folder": "wrong/toy"}])
    (gallery,) = galleries(own_root, 1)
    assert gallery.rows == []
    assert "'nobodys' is unknown" in gallery.problems[0]
