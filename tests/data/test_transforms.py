import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detecture.config.sections.images import MicroCropSettings
from detecture.data.transforms import keep_survivors, micro_crop, resize_image, resize_labels
from detecture.errors import ConfigError


def test_labels_take_the_nearest_pixel_centre():
    labels = np.array([[1, 2], [3, 4]], np.int32)
    big = resize_labels(labels, (4, 6))
    np.testing.assert_array_equal(big[0], [1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(big[:, 0], [1, 1, 3, 3])
    np.testing.assert_array_equal(resize_labels(big, (2, 2)), labels)
    assert big.dtype == labels.dtype
    np.testing.assert_array_equal(resize_labels(np.arange(5)[None], (1, 2)), [[1, 3]])


def test_image_and_labels_stay_aligned():
    """A border in the image and in the labels is the same border after any stretch."""
    image = np.zeros((30, 40, 3), np.uint8)
    image[:, 17:] = 255
    labels = (image[..., 0] > 0).astype(np.int64)
    for size in ((64, 64), (15, 23), (90, 41)):
        stretched = resize_image(image, size)
        assert stretched.shape == (*size, 3) and stretched.dtype == np.uint8
        np.testing.assert_array_equal(stretched[..., 0] > 127, resize_labels(labels, size) == 1)


def test_survivors_are_renumbered_with_their_descriptions():
    labels = np.array([[0, 1, 1, 1], [3, 3, 4, 4]])
    kept, texts = keep_survivors(labels, ["a", "b", "c", "d"])
    np.testing.assert_array_equal(kept, [[0, 1, 1, 1], [2, 2, 3, 3]])
    assert texts == ["a", "c", "d"] and kept.dtype == np.int64
    kept, texts = keep_survivors(labels, ["a", "b", "c", "d"], min_share=3 / 8)
    np.testing.assert_array_equal(kept, [[0, 1, 1, 1], [0, 0, 0, 0]])
    assert texts == ["a"]


@given(
    labels=hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)),
                      elements=st.integers(0, 5)),
    min_share=st.floats(0, 0.5),
)  # fmt: skip
def test_survivors_against_a_loop(labels, min_share):
    texts = [f"t{i}" for i in range(1, 6)]
    kept, survivors = keep_survivors(labels, texts, min_share)
    expected, names = np.zeros(labels.shape, int), []
    for i in range(1, 6):
        region = labels == i
        if region.any() and region.sum() >= min_share * labels.size:
            names.append(f"t{i}")
            expected[region] = len(names)
    assert survivors == names
    np.testing.assert_array_equal(kept, expected)


SIZE = 100
IMAGE = np.dstack([np.add.outer(np.arange(SIZE), np.arange(SIZE)).astype(np.uint8)] * 3)


def halves() -> np.ndarray:
    labels = np.ones((SIZE, SIZE), np.int64)
    labels[:, SIZE // 2 :] = 2
    return labels


def crop_settings(prob, side, min_regions) -> MicroCropSettings:
    return MicroCropSettings(prob=prob, side=side, min_regions=min_regions)


def crops(
    crop: MicroCropSettings, labels: np.ndarray, texts: list[str], count: int = 200
) -> list[tuple]:
    random = np.random.default_rng(0)
    return [micro_crop(crop, IMAGE, labels, texts, random) for _ in range(count)]


def test_probability():
    outcomes = crops(crop_settings(0.35, (0.3, 0.6), 1), halves(), ["a", "b"], 1000)
    cropped = sum(image is not IMAGE for image, _, _ in outcomes)
    assert 300 < cropped < 400
    assert all(
        i is IMAGE for i, _, _ in crops(crop_settings(0.0, (0.3, 0.6), 1), halves(), ["a", "b"])
    )


def test_crops_are_squares_of_the_right_side_stretched_back():
    """IMAGE is a ramp: the stretched crop's slope tells the side, and its start the place."""
    sides = []
    for image, labels, _ in crops(crop_settings(1.0, (0.3, 0.6), 1), halves(), ["a", "b"]):
        assert image.shape == (SIZE, SIZE, 3) and labels.shape == (SIZE, SIZE)
        across = int(image[50, 95, 0]) - int(image[50, 5, 0])
        down = int(image[95, 50, 0]) - int(image[5, 50, 0])
        assert abs(across - down) <= 1
        sides.append(across / 0.9)
    assert 28 < min(sides) < 34 and 56 < max(sides) < 62
    assert np.std(sides) > 6  # uniform over 30..60 has 8.9


def test_only_crops_with_enough_regions_are_kept():
    outcomes = crops(crop_settings(1.0, (0.3, 0.3), 2), halves(), ["a", "b"])
    whole = [texts for image, _, texts in outcomes if image is IMAGE]
    kept = [(labels, texts) for image, labels, texts in outcomes if image is not IMAGE]
    # 30 of 100 columns, border in the middle: seen from 29 of the 71 places.
    assert 0.25 < len(kept) / len(outcomes) < 0.55 and whole
    for labels, texts in kept:
        assert texts == ["a", "b"] and set(np.unique(labels)) == {1, 2}
        assert (
            min((labels == 1).mean(), (labels == 2).mean()) >= MicroCropSettings.min_share == 0.01
        )


def test_survivors_of_a_crop_are_renumbered():
    """The image's grey tells which texture a pixel is of: text and number must follow it."""
    labels = np.full((SIZE, SIZE), 4, np.int64)
    for i, start in enumerate((0, 30, 60), start=1):
        labels[start : start + 20, :] = i
    image = np.dstack([(labels * 50).astype(np.uint8)] * 3)
    texts = ["one", "two", "three", "ground"]
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(100):
        crop = crop_settings(1.0, (0.3, 0.5), 2)
        cropped_image, cropped, survivors = micro_crop(crop, image, labels, texts, random)
        seen.add(tuple(survivors))
        assert set(np.unique(cropped)) - {0} == set(range(1, len(survivors) + 1))
        for number, text in enumerate(survivors, start=1):
            greys = cropped_image[cropped == number, 0]
            assert (greys == 50 * (texts.index(text) + 1)).any()
    assert ("two", "ground") in seen and ("two", "three", "ground") in seen


def test_a_sliver_does_not_survive():
    labels = np.ones((SIZE, SIZE), np.int64)
    labels[0, 0] = 2
    for image, cropped, texts in crops(
        crop_settings(1.0, (0.5, 1.0), 1), labels, ["a", "sliver"], 50
    ):
        assert image is not IMAGE and texts == ["a"] and cropped.max() == 1


def test_as_published_any_pixel_survives():
    labels = np.ones((SIZE, SIZE), np.int64)
    labels[SIZE // 2, SIZE // 2] = 2
    crop = MicroCropSettings(prob=1.0, side=(0.5, 1.0), min_regions=1, min_share=0.0)
    seen = set()
    for image, cropped, texts in crops(crop, labels, ["a", "pixel"], 50):
        assert image is not IMAGE and len(texts) == cropped.max()
        seen.add(tuple(texts))
    assert ("a", "pixel") in seen


def test_a_region_that_a_crop_hides_keeps_its_number_by_its_own_mask():
    """Of `under` only a row in the image's last quarter is to be seen; `over` hides the rest."""
    masks = np.zeros((3, SIZE, SIZE), bool)
    masks[0, :, : SIZE // 2] = True  # "under"
    masks[1, : 3 * SIZE // 4] = True  # "over"
    masks[2, 3 * SIZE // 4 :, SIZE // 2 :] = True  # "corner"
    labels = np.zeros((SIZE, SIZE), np.int64)
    for number, mask in enumerate(masks, start=1):
        labels[mask] = number
    texts = ["under", "over", "corner"]
    crop = MicroCropSettings(prob=1.0, side=(0.4, 0.4), min_regions=1, min_share=0.0)
    hidden = 0
    for seed in range(100):
        image, cropped, kept = micro_crop(
            crop, IMAGE, labels, texts, np.random.default_rng(seed), masks
        )
        _, plain, visible = micro_crop(crop, IMAGE, labels, texts, np.random.default_rng(seed))
        assert image is not IMAGE and [text for text in kept if text in visible] == visible
        for number, text in enumerate(kept, start=1):  # the same pixels under the new numbers
            due = plain == visible.index(text) + 1 if text in visible else np.zeros_like(cropped)
            np.testing.assert_array_equal(cropped == number, due)
        hidden += "under" in kept and "under" not in visible
    assert hidden > 10


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ((1.5, (0.3, 0.6), 2), "PROB"),
        ((-0.1, (0.3, 0.6), 2), "PROB"),
        ((0.5, (0.6, 0.3), 2), "SIDE"),
        ((0.5, (0.0, 0.3), 2), "SIDE"),
        ((0.5, (0.3, 1.1), 2), "SIDE"),
        ((0.5, (0.3,), 2), "SIDE"),
    ],
)
def test_values_out_of_range(arguments, key):
    with pytest.raises(ConfigError, match=f"INPUT.MICRO_CROP.{key}"):
        crop_settings(*arguments)
