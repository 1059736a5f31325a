"""From labels to regions: the figures of the published tool, and the two modes."""

import numpy as np
import pytest
from PIL import Image

from detecture.errors import ConfigError, MinerError
from detecture.miner.extract import (
    ExtractSettings,
    extract_region_map,
    extract_regions,
    paint_segments,
    read_index_mask,
    require_same_frame,
    resized_nearest,
    store_extraction,
)

WALL, FLOOR, TREE, ROAD, GRASS, PERSON = 1, 4, 5, 7, 10, 13
NAMES = {1: "wall", 4: "floor", 5: "tree", 7: "road", 10: "grass", 13: "person"}
KINDS = dict.fromkeys(NAMES, "texture") | {13: "object"}
PUBLISHED = ExtractSettings(mode="published")


def strip(*counts):
    """A map of 10 x 100 with so many pixels of each class."""
    flat = np.concatenate([np.full(count, value) for value, count in counts])
    assert flat.size == 1000
    return flat.reshape(10, 100)


def extract(labels, settings=PUBLISHED, size=None):
    return extract_regions(labels, size or labels.shape, NAMES, KINDS, settings)


def names(extraction):
    return [region["class_name"] for region in extraction.result["regions"]]


FIVE = strip((WALL, 600), (FLOOR, 300), (GRASS, 90), (TREE, 9), (ROAD, 1))


def test_the_published_figures():
    found = extract(FIVE)
    assert names(found) == ["wall", "floor", "grass"]
    assert found.result["status"] == "ok"
    for value, label in enumerate((WALL, FLOOR, GRASS), 1):
        assert np.array_equal(found.index_mask == value, label == FIVE)
    assert (found.index_mask[np.isin(FIVE, (TREE, ROAD))] == 0).all()
    assert found.index_mask.dtype == np.uint8
    exactly = strip((WALL, 600), (FLOOR, 300), (GRASS, 90), (TREE, 10))
    assert names(extract(exactly)) == ["wall", "floor", "grass", "tree"]
    two = ExtractSettings(mode="published", max_regions=2)
    assert names(extract(FIVE, two)) == ["wall", "floor"]
    one = extract(strip((WALL, 1000)))
    assert one.result["status"] == "too_few_regions"
    assert names(one) == ["wall"]


def test_ties_go_to_the_lower_class_and_objects_are_in():
    labels = strip((PERSON, 500), (FLOOR, 500))
    assert names(extract(labels)) == ["floor", "person"]


def test_the_facts_of_a_region():
    labels = np.zeros((20, 40), dtype=np.int32)
    labels[2:12, 5:25] = WALL
    labels[15:20, 30:40] = 99
    first, second = extract(labels).result["regions"]
    assert first == {"class_id": 1, "class_name": "wall", "area": 0.25, "bbox": [5, 2, 25, 12]}
    assert second["class_name"] == "class 99"
    assert second["bbox"] == [30, 15, 40, 20]


def blobs(gap):
    """Two blobs of wall with so many columns of person between, and floor below."""
    labels = np.full((40, 60), FLOOR)
    labels[:20] = PERSON
    labels[:20, :20] = WALL
    labels[:20, 20 + gap : 40 + gap] = WALL
    return labels


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 4, 7])
def test_parts_of_a_class_merge_over_a_gap_of_so_many_pixels(gap):
    for turned in (False, True):
        labels = blobs(gap).T if turned else blobs(gap)
        for allowed in (0, 1, 2, 3, 4, 6, 7):
            found = extract(labels, ExtractSettings(merge_gap=allowed))
            expected = ["floor", "wall"] if gap <= allowed else ["floor", "wall", "wall"]
            assert names(found) == expected
            # The gap itself is not filled.
            assert (found.index_mask[labels == PERSON] == 0).all()


def linked(mask, reach):
    """Number of groups of pixels that are linked by steps of at most `reach` either way."""
    todo = {tuple(p) for p in np.argwhere(mask).tolist()}
    groups = 0
    while todo:
        groups += 1
        front = [todo.pop()]
        while front:
            y, x = front.pop()
            near = {p for p in todo if abs(p[0] - y) <= reach and abs(p[1] - x) <= reach}
            todo -= near
            front += near
    return groups


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 20])
def test_parts_are_those_that_are_linked_pixel_by_pixel(gap):
    settings = ExtractSettings(merge_gap=gap, min_share=0.0, min_regions=1, max_regions=20)
    for seed in range(30):
        mask = np.random.default_rng(seed).random((12, 17)) < 0.04
        found = extract(np.where(mask, WALL, 0), settings)
        assert len(found.result["regions"]) == min(20, linked(mask, gap + 1))
        if linked(mask, gap + 1) <= 20:
            assert np.array_equal(found.index_mask > 0, mask)


def test_texture_mode_leaves_out_objects_and_specks():
    labels = blobs(7)
    labels[0, 25] = WALL  # a speck of its own, far from both
    found = extract(labels, ExtractSettings(merge_gap=0))
    assert names(found) == ["floor", "wall", "wall"]
    assert found.index_mask[0, 25] == 0
    # The left one first: both are as large.
    assert found.index_mask[0, 0] == 2
    assert found.index_mask[0, 30] == 3


def test_corners_touch():
    labels = np.full((20, 20), WALL)
    labels[:10, :10] = labels[10:, 10:] = GRASS
    assert names(extract(labels, ExtractSettings(merge_gap=0))) == ["wall", "grass"]


def test_specks_that_lie_close_together_are_one_region():
    labels = np.full((30, 30), FLOOR)
    labels[5:25:2, 5:25:2] = GRASS
    labels[:2] = 0
    assert names(extract(labels, ExtractSettings(merge_gap=1))) == ["floor", "grass"]
    assert names(extract(labels, ExtractSettings(merge_gap=0, min_regions=1))) == ["floor"]


@pytest.mark.parametrize("mode", ["texture", "published"])
@pytest.mark.parametrize("size", [(20, 200), (5, 50), (13, 130)])
def test_an_annotation_of_another_resolution_is_resized_and_that_is_said(mode, size):
    labels = strip((WALL, 600), (FLOOR, 300), (GRASS, 100))
    settings = ExtractSettings(mode=mode)
    found = extract(labels, settings, size)
    assert found.index_mask.shape == size
    assert found.result["size"] == list(size)
    assert found.result["resized_from"] == [10, 100]
    assert names(found) == ["wall", "floor", "grass"]
    same = extract(labels, settings)
    assert "resized_from" not in same.result
    if size == (20, 200):
        assert np.array_equal(found.index_mask[::2, ::2], same.index_mask)
        assert np.array_equal(found.index_mask[1::2, 1::2], same.index_mask)
    areas = [region["area"] for region in found.result["regions"]]
    assert areas == [round(float((found.index_mask == i).mean()), 6) for i in (1, 2, 3)]


def test_a_region_that_is_lost_in_a_small_image_leaves_no_number_behind():
    labels = np.full((100, 100), WALL)
    labels[:, 0::10] = FLOOR  # the nearest pixels of 10 x 10 lie in the column 5
    labels[50:60] = GRASS
    found = extract(labels, PUBLISHED, (10, 10))
    assert names(found) == ["wall", "grass"]
    assert sorted(np.unique(found.index_mask)) == [1, 2]


def test_another_aspect_ratio_is_an_error_that_names_both_sizes():
    with pytest.raises(MinerError, match=r"10 x 100 and the image 20 x 100"):
        extract(FIVE, size=(20, 100))
    with pytest.raises(MinerError, match="EXIF"):
        extract(FIVE, size=(100, 10))
    # Rounding is none.
    require_same_frame((512, 683), (1024, 1365))
    require_same_frame((3, 4), (333, 500))
    with pytest.raises(MinerError, match="empty"):
        require_same_frame((0, 4), (3, 4))


def test_resized_nearest_takes_the_pixel_whose_centre_is_nearest():
    labels = np.arange(100).reshape(10, 10)
    for size in ((20, 20), (7, 13), (3, 3)):
        expected = Image.fromarray(labels.astype(np.int32)).resize(
            size[::-1], Image.Resampling.NEAREST
        )
        assert np.array_equal(resized_nearest(labels, size), np.asarray(expected))


def test_segments_without_classes():
    big, small = np.zeros((2, 10, 10), dtype=bool)
    big[:, :8] = True
    small[2:5, 2:5] = True
    for masks, numbers in (((big, small), (1, 2)), ((small, big), (2, 1))):
        painted = paint_segments(masks, (10, 10))
        assert (painted == numbers[1]).sum() == 9
        assert (painted == numbers[0]).sum() == 71
        found = extract_region_map(painted, (10, 10), {}, {}, ExtractSettings())
        assert [r["class_id"] for r in found.result["regions"]] == [None, None]
        assert [r["class_name"] for r in found.result["regions"]] == ["", ""]
        assert (found.index_mask == 1).sum() == 71
    kinds = {2: "object"}
    found = extract_region_map(painted, (10, 10), {}, kinds, ExtractSettings())
    assert found.result["status"] == "too_few_regions"
    with pytest.raises(MinerError, match="segment 1 is 10 x 10 and its image 9 x 10"):
        paint_segments([big], (9, 10))


def test_numbers_of_segments_may_be_huge():
    region_map = np.array([[0, 7, 2**30, 2**30]] * 4)
    found = extract_region_map(region_map, (4, 4), {7: "x"}, {}, ExtractSettings())
    assert [r["area"] for r in found.result["regions"]] == [0.5, 0.25]
    assert [r["class_name"] for r in found.result["regions"]] == ["", "x"]


def test_an_unlabelled_image_gives_none():
    for settings in (PUBLISHED, ExtractSettings()):
        found = extract(np.zeros((8, 8), dtype=np.int32), settings)
        assert found.result == {"status": "too_few_regions", "size": [8, 8], "regions": []}


def test_the_index_mask_is_written_and_read_back(tmp_path):
    found = extract(FIVE)
    result = store_extraction(found, "a_1", tmp_path)
    assert result == {**found.result, "index_mask": "extract/a_1.png"}
    path = tmp_path / "extract/a_1.png"
    assert Image.open(path).mode == "L"
    assert np.array_equal(read_index_mask(path, 10_000, (10, 100)), found.index_mask)
    with pytest.raises(
        MinerError, match=r"not as it was written \(is 10 x 100.*remove it .* --retry-failed"
    ):
        read_index_mask(path, 10_000, (10, 101))
    Image.fromarray(np.full((4, 4), 254, dtype=np.uint8)).save(path)
    with pytest.raises(MinerError, match="254"):
        read_index_mask(path, 10_000)
    few = store_extraction(extract(strip((WALL, 1000))), "b", tmp_path)
    assert "index_mask" not in few
    assert not (tmp_path / "extract/b.png").exists()


@pytest.mark.parametrize("changes", [{"min_regions": 6}, {"max_regions": 21}, {"min_regions": 0}])
def test_settings_that_cannot_be(changes):
    with pytest.raises(ConfigError, match=r"MINER\.EXTRACT\.M(AX|IN)_REGIONS"):
        ExtractSettings(**changes)
