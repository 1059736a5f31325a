"""The quantiser does to an image what JPEG does."""

import io

import numpy as np
import pytest
from PIL import Image

from detecture.data.synthetic import render_scene
from detecture.data.synthetic.dct import quantise


def error(a, b):
    return float(np.sqrt(np.mean((a.astype(float) - b.astype(float)) ** 2)))


@pytest.mark.parametrize("quality", [35, 60, 90])
def test_loss_is_that_of_jpeg(quality):
    image = render_scene(1, 3, 128, 4).image
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
    jpeg = np.asarray(Image.open(file))
    ours = np.clip(np.rint(quantise(image.astype(float), quality)), 0, 255)
    assert error(ours, image) == pytest.approx(error(jpeg, image), rel=0.2)
    assert error(ours, jpeg) < 0.6 * error(jpeg, image) + 1.0


def test_worse_quality_loses_more():
    image = render_scene(1, 4, 64).image.astype(float)
    errors = [error(quantise(image, quality), image) for quality in (95, 70, 40, 10)]
    assert errors == sorted(errors)


@pytest.mark.parametrize("shape", [(16, 16), (33, 50), (7, 200)])
def test_any_size(shape):
    grey = np.full((*shape, 3), 90.0)
    assert np.abs(quantise(grey, 90.0) - grey).max() < 2.0
