"""Colours of regions, and the overlay."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from detecture.errors import MinerError
from detecture.miner.palette import MOST_REGIONS, PALETTE, color_names, color_of, render_overlay


def test_the_colours_are_apart_and_each_has_a_name():
    assert MOST_REGIONS == len({c.name for c in PALETTE}) == len({c.rgb for c in PALETTE}) == 20
    lab = rgb2lab(np.array([c.rgb for c in PALETTE]) / 255.0)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() > 20
    assert apart[:6, :6].min() > 50


def test_the_first_names_are_those_of_their_colours():
    assert color_names(5) == ["red", "green", "blue", "yellow", "cyan"]
    for name, strongest in (("red", 0), ("green", 1), ("blue", 2)):
        (color,) = (c for c in PALETTE if c.name == name)
        assert int(np.argmax(color.rgb)) == strongest
    assert color_of(0).hex == "#e60000"
    with pytest.raises(MinerError, match="MAX_REGIONS"):
        color_of(20)


def test_the_overlay_mixes_and_outlines():
    image = np.full((40, 60, 3), 100, dtype=np.uint8)
    index = np.zeros((40, 60), dtype=np.uint8)
    index[:, 20:40] = 1
    index[:, 40:] = 2
    drawn = render_overlay(image, index)
    assert (drawn[:, :20] == 100).all()
    for value, columns in ((1, slice(22, 38)), (2, slice(42, 60))):
        color = np.array(PALETTE[value - 1].rgb)
        assert np.array_equal(
            drawn[5, columns.start], np.round(0.4 * 100 + 0.6 * color).astype(int)
        )
        assert (drawn[:, columns] == drawn[5, columns.start]).all()
    # Two pixels on either side of a border, in the region's own colour.
    assert (drawn[:, 20:22] == PALETTE[0].rgb).all()
    assert (drawn[:, 38:40] == PALETTE[0].rgb).all()
    assert (drawn[:, 40:42] == PALETTE[1].rgb).all()
    assert (image == 100).all()


def test_what_does_not_go_together():
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    with pytest.raises(MinerError, match="4 x 4 and its index mask 4 x 5"):
        render_overlay(image, np.zeros((4, 5), dtype=np.uint8))
    with pytest.raises(MinerError, match="region 21"):
        render_overlay(image, np.full((4, 4), 21, dtype=np.uint8))
