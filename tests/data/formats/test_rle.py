"""Run lengths of masks, in each dialect."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from detecture.data.formats.brush_rle import from_brush_rle, to_brush_rle
from detecture.data.formats.rle import from_coco_rle, from_polygons, to_coco_rle
from detecture.errors import DatasetError


@st.composite
def masks(draw):
    """bool (H,W): noise, stripes or nearly one colour, of any small size, at times a long one."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    if draw(st.integers(0, 9)) == 0:
        height, width = draw(st.sampled_from([(1, 70_000), (70_000, 1), (300, 300)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.001, 0.1, 0.5, 0.99, 1.0]))
    return np.kron(mask, np.ones((2, 3), bool)) if draw(st.booleans()) else mask


@settings(max_examples=150, deadline=None)
@given(masks())
def test_cocos_run_lengths(mask):
    theirs = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    for compressed in (True, False):
        rle = to_coco_rle(mask, compressed)
        np.testing.assert_array_equal(from_coco_rle(rle, mask.shape, "x"), mask)
        assert isinstance(rle["counts"], str) is compressed
        if not compressed:
            assert sum(rle["counts"]) == mask.size
            assert coco_mask.frPyObjects(rle, *mask.shape)["counts"] == theirs["counts"]


@settings(max_examples=150, deadline=None)
@given(masks())
def test_label_studios_run_lengths(mask):
    rle = to_brush_rle(mask)
    assert all(0 <= n < 256 for n in rle)
    np.testing.assert_array_equal(from_brush_rle(rle, mask.shape, "x"), mask)


def test_label_studios_bytes_as_its_own_tools_write_them():
    """Made with brush.mask2rle and decoded with brush.decode_rle of label-studio-sdk 2.1.2."""
    mask = np.zeros((5, 7), bool)
    mask[1:4, 2:5] = True
    mask[2, 3] = False
    text = "0000008c391bfe2300b7ff7c023ff8c023ffbe016fff118000"
    theirs = list(bytes.fromhex(text))
    np.testing.assert_array_equal(from_brush_rle(theirs, mask.shape, "x"), mask)


def bits(*parts):
    """Bytes of (value, width) one after the other."""
    text = "".join(f"{value:0{width}b}" for value, width in parts)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def header(count):
    return ((count, 32), (7, 5), (2, 4), (3, 4), (7, 4), (15, 4))


def test_label_studios_literal_values_and_half_opacity():
    """Its canvas writes runs of different values, and edges that are half opaque."""
    values = [0, 0, 0, 127, 9, 9, 9, 128, 1, 2, 3, 255]
    rle = bits(*header(12), (0, 1), (1, 2), (11, 4), *((v, 8) for v in values))
    found = from_brush_rle(rle, (1, 3), "x")
    assert found.tolist() == [[False, True, True]]


@pytest.mark.parametrize(
    ("rle", "text"),
    [
        ("text", "no list of bytes"),
        ([256], "no list of bytes"),
        ([True], "no list of bytes"),
        ([], "values"),
        (bits(*header(8)), "8 values, not 16"),
        (bits(*header(16)), "too early"),
        (bits(*header(16), (1, 1), (2, 2), (255, 8), (255, 8)), "out of the image"),
        (bits(*header(16), (0, 1), (1, 2), (15, 4), (255, 8)), "too early"),
        (bits((16, 32), (15, 5), (2, 4), (3, 4), (7, 4), (15, 4)), "16 bits"),
    ],
)
def test_damaged_bytes_of_label_studio_are_refused(rle, text):
    with pytest.raises(DatasetError, match=text):
        from_brush_rle(rle, (2, 2), "x")


@pytest.mark.parametrize(
    ("rle", "text"),
    [
        (None, "size"),
        ({"size": [2, 3], "counts": [6]}, "size"),
        ({"size": [2, 2], "counts": [5]}, "4 pixels"),
        ({"size": [2, 2], "counts": [1, 4]}, "4 pixels"),
        ({"size": [2, 2], "counts": [-1, 4]}, "run lengths"),
        ({"size": [2, 2], "counts": [1.0]}, "run lengths"),
        ({"size": [2, 2], "counts": [1 << 70]}, "run lengths"),
        ({"size": [2, 2], "counts": ["1"]}, "run lengths"),
        ({"size": [2, 2], "counts": 4}, "run lengths"),
        ({"size": [2, 2], "counts": "\x01"}, "damaged"),
        ({"size": [2, 2], "counts": "ö"}, "damaged"),
        ({"size": [2, 2], "counts": "o"}, "damaged"),
        ({"size": [2, 2], "counts": "P" * 1000}, "damaged"),
        ({"size": [2, 2], "counts": "ooooooooooo0"}, "damaged"),
        ({"size": [2, 2], "counts": "05O"}, "4 pixels"),
    ],
)
def test_damaged_run_lengths_are_refused(rle, text):
    with pytest.raises(DatasetError, match=text):
        from_coco_rle(rle, (2, 2), "x")


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=30))
def test_any_letters_are_read_or_refused(text):
    with suppress(DatasetError):
        assert from_coco_rle({"size": [9, 7], "counts": text}, (9, 7), "x").shape == (9, 7)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 255), max_size=40))
def test_any_bytes_are_read_or_refused(content):
    rle = bits(*header(16)) + content
    with suppress(DatasetError):
        assert from_brush_rle(rle, (2, 2), "x").shape == (2, 2)


def test_polygons_are_drawn_inside_the_image():
    found = from_polygons([[-5, -5, 4, -5, 4, 99, -5, 99], [6.0, 0, 8, 0, 8, 2, 6, 2]], (5, 9), "x")
    wanted = np.zeros((5, 9), bool)
    wanted[:, :4] = True
    wanted[:2, 6:8] = True
    np.testing.assert_array_equal(found, wanted)
    assert not from_polygons([], (3, 3), "x").any()
    for wrong in (None, [[1, 2, 3]], [["a"] * 6], [[float("inf")] * 6], [[1e300] * 6]):
        with pytest.raises(DatasetError, match="polygons"):
            from_polygons(wrong, (3, 3), "x")
