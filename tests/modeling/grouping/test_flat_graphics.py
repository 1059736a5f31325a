"""Graphics of few colours, and single colours: no model raises, and one colour is one region."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from detecture import TexturePredictor
from detecture.errors import PredictionError
from detecture.modeling.meta_arch import TextureClusters

SIDE = 512
ROW, COLUMN = np.mgrid[:SIDE, :SIDE]
PRIMARY = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)], np.uint8
)


def two(where, levels):
    return np.where(where, levels[0], levels[1]).astype(np.uint8)


def flat(*size, color=90):
    return np.full((*size, 3), color, np.uint8)


# All of these but `circle` ended the run of a folder, with one number of regions or another.
GRAPHICS = {
    "halves": two(COLUMN < 256, (120, 200)),
    "third": two(COLUMN < 170, (0, 255)),
    "narrow stripes": two(COLUMN // 2 % 2, (10, 12)),
    "stripes": two(COLUMN // 32 % 2, (255, 0)),
    "faint stripes": two(COLUMN // 8 % 2, (127, 128)),
    "colour bars": PRIMARY[COLUMN * 6 // SIDE],
    "circle": two((ROW - 256) ** 2 + (COLUMN - 256) ** 2 < 150**2, (0, 255)),
}
MORE = {
    "halves below each other": two(ROW < 256, (255, 0)),
    "checkerboard": two((COLUMN // 64 + ROW // 64) % 2, (0, 255)),
    "fine checkerboard": two((COLUMN // 2 + ROW // 2) % 2, (60, 61)),
    "gradient": (COLUMN // 2).astype(np.uint8),
    "colours that shade": np.stack([COLUMN // 2, ROW // 2, (ROW + COLUMN) // 4], -1).astype(
        np.uint8
    ),
    "line": two(COLUMN == 256, (0, 255)),
    "dot": two((COLUMN == 256) & (ROW == 100), (255, 0)),
    "squares": (COLUMN * 4 // SIDE * 60 + ROW * 4 // SIDE * 15).astype(np.uint8),
    "1x300": np.random.default_rng(0).integers(0, 256, (1, 300, 3), dtype=np.uint8),
    "300x1": two(np.arange(300)[:, None] < 150, (20, 230)),
    "3x2": np.random.default_rng(0).integers(0, 256, (3, 2, 3), dtype=np.uint8),
    "17x64": two(np.broadcast_to(np.arange(64) < 32, (17, 64)), (20, 230)),
}
ONE_COLOUR = {
    "black": flat(SIDE, SIDE, color=0),
    "white": flat(300, 400, color=255),
    "grey": flat(SIDE, SIDE, color=128),
    "grey, one channel": np.full((64, 64), 128, np.uint8),
    "red": np.full((16, 16, 3), (200, 30, 30), np.uint8),
    "1x1": flat(1, 1),
    "3x2": flat(3, 2),
    "1x300": flat(1, 300),
    "300x1": flat(300, 1),
    "17x64": flat(17, 64),
}


@pytest.fixture(scope="module", params=["ships", "clusters"])
def predictor(request):
    if request.param == "clusters":
        return TexturePredictor(TextureClusters())
    # The sentences are tested below: they take half of the time.
    return TexturePredictor.from_config(None, ["MODEL.GROUPING.DESCRIBE", "False"])


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        for kind in (RuntimeWarning, ConvergenceWarning):
            warnings.simplefilter("error", kind)
        yield


def check(result, image):
    assert result.status == "ok"
    assert result.label_map.shape == image.shape[:2]
    assert result.label_map.min() >= 1 and result.label_map.max() <= result.num_regions
    assert result.areas.sum() == image.shape[0] * image.shape[1]


@pytest.mark.parametrize("name", [*GRAPHICS, *MORE])
def test_graphics_with_their_number_of_regions_unknown(predictor, name):
    image = (GRAPHICS | MORE)[name]
    result = predictor(image)
    check(result, image)
    assert (result.areas > 0).all(), "what nobody has asked for is there"


@pytest.mark.parametrize("name", [*GRAPHICS, "checkerboard", "line", "3x2", "1x300"])
def test_graphics_with_every_number_of_regions(predictor, name):
    image = (GRAPHICS | MORE)[name]
    predictor.set_image(image)
    for count in range(1, 7):
        result = predictor.predict(count)
        check(result, image)
        assert result.num_regions == count


@pytest.mark.parametrize("name", ONE_COLOUR)
def test_one_colour_is_one_region(predictor, name):
    image = ONE_COLOUR[name]
    result = predictor(image)
    check(result, image)
    assert result.num_regions == 1
    if image.shape[0] * image.shape[1] < 3:
        with pytest.raises(PredictionError, match="3 regions"):
            predictor(image, count=3)
        return
    asked = predictor(image, count=3)
    check(asked, image)
    assert (asked.num_regions, (asked.areas > 0).sum()) == (3, 1), "the others are empty"


def test_what_differs_by_less_than_the_working_size_shows_is_one_colour(predictor):
    image = np.full((SIDE, SIDE), 127, np.uint8)
    image[256, 256] = 128
    assert predictor(image).num_regions == 1


def test_plain_shapes_are_found(predictor):
    for name in ("third", "circle"):
        image = GRAPHICS[name]
        labels = predictor(image, count=2).label_map
        same = (labels == labels[0, 0]) == (image == image[0, 0])
        assert same.mean() > 0.9


def test_the_model_that_ships_describes_them():
    predictor = TexturePredictor.from_config()
    images = [GRAPHICS["halves"], ONE_COLOUR["grey"], GRAPHICS["stripes"], ONE_COLOUR["1x1"]]
    results = predictor(images)
    assert [result.num_regions for result in results][1::2] == [1, 1]
    assert all(text for result in results for text in result.descriptions)
