import numpy as np
import pytest
from PIL import Image, ImageFont

from detecture.visualize import (
    Drawing,
    _wrap,
    annotation_drawing,
    contact_sheet,
    draw_overlay,
    in_colors_of_truth,
    label_map_image,
    prediction_drawing,
    region_colors,
)


def make_image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_colors_differ_and_do_not_depend_on_the_number():
    colors = region_colors(40)
    assert len({tuple(color) for color in colors}) == 41
    assert (region_colors(3) == colors[:4]).all()


@pytest.mark.parametrize("highest", [0, 3, 255, 256])
def test_label_map_image_keeps_the_labels(highest):
    labels = np.array([[0, highest], [highest, 0]])
    assert (np.asarray(label_map_image(labels)) == labels).all()


def test_overlay_leaves_the_dustbin_and_the_original_alone():
    image, labels = make_image(40, 60), np.zeros((40, 60), np.int32)
    labels[:, 30:] = 1
    before = image.copy()
    drawn = draw_overlay(image, labels)
    assert (drawn[:, :29] == image[:, :29]).all() and (drawn[:, 29] == 255).all()
    assert (drawn[:, 31:] != image[:, 31:]).any() and (image == before).all()
    with_legend = draw_overlay(image, labels, ["one", ""])
    assert with_legend.shape[0] > 40 and (with_legend[:40] == drawn).all()


def test_matched_regions_get_the_number_of_their_partner():
    labels = np.array([[0, 1, 2, 3, 4]])
    numbered = in_colors_of_truth(labels, [[0, 1], [2, 0]], k_pred=4, k_gt=2)
    assert numbered.tolist() == [[0, 2, 3, 1, 4]]
    assert in_colors_of_truth(np.zeros((1, 2), int), [], 0, 3).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("size", "panel"),
    [((32, 16), (256, 128)), ((300, 400), (300, 400)), ((4000, 100), (1024, 26))],
)
def test_size_of_a_drawing(size, panel):
    drawing = Drawing(make_image(*size), [np.zeros(size, int), "none"], "caption", ["text"])
    image = drawing.render()
    assert image.width == 3 * panel[1] + 8 and image.height > panel[0]
    tile = drawing.render_tile(100)
    assert tile.width == 3 * 100 + 8


def test_tiny_images_keep_their_pixels_and_outlines_are_thin():
    image, labels = make_image(4, 4), np.repeat([[1, 1, 2, 2]], 4, axis=0)
    drawn = np.asarray(Drawing(image, [labels], "").render())[:256]
    assert (drawn[32, :256:64] == image[0]).all() and (drawn[0:64, 0:64] == image[0, 0]).all()
    white = (drawn[:, 260:] == 255).all(axis=(0, 2))
    assert white.sum() == 1 and white[127]


def test_contact_sheet():
    tiles = [Image.new("RGB", (100, 40 + i)) for i in range(7)]
    assert contact_sheet(tiles, 3).size == (3 * 116 + 16, 3 * (46 + 16) + 16)
    assert contact_sheet(tiles, 50).size == (7 * 116 + 16, 46 + 32)
    free = contact_sheet(tiles)
    assert 0.5 < free.width / free.height < 2
    assert contact_sheet(tiles[:1]).size == (132, 72)


@pytest.mark.parametrize(
    "text", ["", "a", "word " * 300, "x" * 5000, "line\nbreak\ttab", "eine Oberfläche, 木目", "  "]
)
@pytest.mark.parametrize("width", [5, 120, 600])
def test_text_fits(text, width):
    font = ImageFont.load_default(14)
    lines = _wrap(text, width)
    assert 1 <= len(lines) <= 3
    assert all(font.getlength(line) <= max(width, font.getlength("..")) for line in lines)
    if len(text) < 10 and width == 600:
        assert lines == [" ".join(text.split())]


def test_annotation_says_what_the_masks_cover():
    masks = np.zeros((2, 10, 10), bool)
    masks[0, :5], masks[1, 4:6] = True, True
    index_map = np.zeros((10, 10), np.int32)
    index_map[:5], index_map[4:6] = 1, 2
    drawing = annotation_drawing("id", make_image(10, 10), masks, index_map, ["moss", ""])
    assert drawing.caption == "id: 10 x 10 (H x W), K 2, 40.0% in no mask, 10.0% in several"
    assert drawing.legend == ["moss (50%)", "region 2 (20%)"]


def test_legend_of_a_prediction():
    record = {
        "image_id": "a", "status": "ok", "k_pred": 3, "k_gt": 2, "mIoU": 0.5, "pIoU": 0.4,
        "ARI": 0.3, "descriptions": ["", "bark", "snow"], "assignment": [[1, 0]],
        "matched_ious": [0.876],
    }  # fmt: skip
    labels = np.array([[0, 1], [2, 3]])
    drawing = prediction_drawing(record, make_image(2, 2), labels * 0, ["wood", "grass"], labels)
    assert drawing.legend == [
        "IoU 0.88 | wood | predicted: bark", "not found | grass", "extra region",
        "extra region | snow",
    ]  # fmt: skip
    assert drawing.overlays[1].tolist() == [[0, 3], [1, 4]]
    assert drawing.caption == "a: ok, K 3 of 2, mIoU 0.500, panoptic 0.400, ARI 0.300"


def test_legend_of_many_regions_is_counted():
    few = Drawing(make_image(8, 8), [], "", [str(i) for i in range(12)]).render()
    many = Drawing(make_image(8, 8), [], "", [str(i) for i in range(500)]).render()
    assert many.height == few.height + 20
