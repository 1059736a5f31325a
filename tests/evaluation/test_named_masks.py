"""The IoU of the mask that each name gets."""

import numpy as np
import pytest

from detecture.errors import DatasetError
from detecture.evaluation.named_masks import (
    NamedImage,
    at_random,
    by_name,
    by_sentences,
    chance,
    half_split,
    iou_matrix,
    shuffled,
    stripped,
    summarize_names,
    without_words,
)
from detecture.evaluation.words.matching import Similarity

LEFT = np.zeros((4, 8), bool)
LEFT[:, :4] = True
IMAGE = NamedImage(
    "a",
    np.zeros((4, 8, 3), np.uint8),
    ["red bricks on the left", "green grass on the right"],
    np.stack([LEFT, ~LEFT]),
    [False, True],
)


def true_labels(image):
    return np.where(image.masks[0], 0, 1)


def test_iou_of_regions_and_masks():
    found = iou_matrix(np.where(LEFT, 0, 7), IMAGE.masks)
    assert found.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_answers():
    assert by_name(true_labels)(IMAGE).tolist() == [1.0, 1.0]
    assert shuffled(true_labels)(IMAGE).tolist() == [0.0, 0.0]
    assert at_random(true_labels)(IMAGE).tolist() == [0.5, 0.5]
    assert at_random(half_split)(IMAGE).tolist() == [0.5, 0.5]
    # A half of 16 pixels, among 16 others: 8 / 24.
    assert chance(IMAGE) == pytest.approx([1 / 3, 1 / 3])


def test_regions_go_to_the_names_that_their_sentences_are_like():
    similarity = Similarity(IMAGE.names)
    sentences = ["Texture of grass in green", "Texture of red bricks"]
    answer = by_sentences(lambda image: (1 - true_labels(image), sentences), similarity)
    assert answer(IMAGE).tolist() == [1.0, 1.0]
    turned = by_sentences(lambda image: (true_labels(image), sentences), similarity)
    assert turned(IMAGE).tolist() == [0.0, 0.0]


def test_words_are_taken_out():
    text = "Texture of dark green grass in the lower left, in the background"
    assert without_words(text, ["color"]) == (
        "texture of grass in the lower left in the background"
    )
    assert without_words(text, ["color", "position"]) == "texture of grass in the"
    assert without_words("red", ["color"]) == "texture"
    assert [image.names for image in stripped([IMAGE], ["color"])] == [
        ["bricks on the left", "grass on the right"]
    ]
    alike = NamedImage("b", IMAGE.image, ["red bricks", "green bricks"], IMAGE.masks, [False] * 2)
    assert not list(stripped([alike], ["color"]))


def test_summary_by_what_was_seen():
    found = summarize_names([IMAGE, IMAGE], [np.array([1.0, 0.5]), np.array([1.0, 0.0])], 100)
    assert found["IoU"]["mean"] == pytest.approx(0.625) and found["IoU"]["n_images"] == 2
    assert found["IoU_seen"]["mean"] == 1.0 and found["IoU_held_out"]["mean"] == 0.25
    low, high = found["IoU"]["ci95"]
    assert low <= 0.625 <= high
    with pytest.raises(DatasetError, match="no image"):
        summarize_names([], [], 100)
