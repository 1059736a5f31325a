"""Each measure against cases whose value is known."""

from dataclasses import replace

import numpy as np
import pytest

from detecture.data.lexicon.positions import position
from detecture.evaluation.summary import bootstrap_intervals
from detecture.evaluation.words.agreement import _POSITIONS, measured_colors, position_holds
from detecture.evaluation.words.attributes import ROWS, count_image, rotate
from detecture.evaluation.words.form import broken_because, build_lexicon, score_form
from detecture.evaluation.words.matching import Similarity, matching_words, score_matching, stem
from detecture.evaluation.words.ratios import ratio, ratio_intervals


def region(scenes, **values):
    return replace(scenes[0].attributes[0], **values)


def test_counts_of_one_image(scenes):
    regions = [
        region(scenes, family="wood", noun="wood grain", colors=("brown", "dark brown"),
               orientation="vertical", scale="fine", regularity="none", position="left"),
        region(scenes, family="dots", noun="round dots", colors=("grey",), position="right",
               orientation="none", scale="fine", regularity="regular"),
    ]  # fmt: skip
    sentences = [
        "brown and red timber grain running vertically on the left",  # of region 0
        "grey dots on the left",  # of nothing
    ]
    counts = dict(zip(ROWS, count_image(sentences, {0: 0}, regions).tolist(), strict=True))
    # true claims, claims, named values, true values
    assert counts["color"] == [1, 3, 1, 3]
    assert counts["color (basic)"] == [1, 3, 1, 2]
    assert counts["pattern"] == [1, 2, 1, 2]
    assert counts["pattern (exact noun)"] == [0, 2, 0, 2]
    assert counts["orientation"] == [1, 1, 1, 1]
    assert counts["scale"] == [0, 0, 0, 2]
    assert counts["regularity"] == [0, 0, 0, 1]
    assert counts["position"] == [1, 2, 1, 2]


def test_near_families_count_in_their_row_only(scenes):
    regions = [region(scenes, family="maze", noun="winding furrows")]
    counts = dict(zip(ROWS, count_image(["dry cracks"], {0: 0}, regions).tolist(), strict=True))
    assert counts["pattern"] == [0, 1, 0, 1] and counts["pattern (near family)"] == [1, 1, 1, 1]


def test_rotation_gives_no_region_its_own():
    texts = [["a", "b"], ["c"], [], ["d", "e"]]
    assert rotate(texts) == [["e", "a"], ["b"], [], ["c", "d"]]


def test_ratio_intervals():
    generator = np.random.default_rng(1)
    above = generator.integers(0, 3, 200)
    whole = np.full(200, 2)
    low, high = ratio_intervals({"x": (above, whole)}, 500)["x"]
    assert low < ratio(above, whole) < high
    # With equal denominators a ratio of sums is a mean.
    assert [low, high] == pytest.approx(bootstrap_intervals({"x": above / 2}, 500)["x"])
    nothing = np.zeros(3, int)
    assert ratio(nothing, nothing) is None
    assert ratio_intervals({"x": (nothing, nothing)}, 10) == {"x": None}


def test_positions_of_a_disc(disc):
    for word, shift in (("centre", (0, 0)), ("left", (0, -25)), ("lower right", (25, 25))):
        mask = np.roll(disc, shift, (0, 1))
        assert position(mask) == word
        true = {w for w in _POSITIONS if position_holds(w, mask)}
        assert true == set(word.split()[-1:]) | {word} | ({"bottom"} if "lower" in word else set())


def test_positions_of_a_ring_and_of_all(disc):
    assert {w for w in _POSITIONS if position_holds(w, ~disc)} >= {position(~disc)}
    thick = np.ones((99, 99), bool)
    thick[30:70, 30:70] = False
    assert position_holds("surrounding", thick) and not position_holds("centre", thick)
    assert {w for w in _POSITIONS if position_holds(w, ~np.zeros((9, 9), bool))} == {
        "whole",
        "most",
    }
    assert not any(position_holds(w, np.zeros((9, 9), bool)) for w in _POSITIONS)


def test_tolerance_of_sides():
    def strip(width):
        mask = np.zeros((100, 100), bool)
        mask[:, :width] = True
        return mask

    assert position(strip(82)) == "left" and position_holds("whole", strip(82))
    assert position(strip(90)) == "whole" and position_holds("most", strip(90))
    assert position(strip(48)) == "left" and position_holds("most", strip(48))
    assert not position_holds("most", strip(44)) and not position_holds("whole", strip(78))
    assert not position_holds("right", strip(50)) and not position_holds("left", strip(98))
    shifted = np.roll(strip(20), 36, axis=1)  # its centroid is at 0.46
    shifted[:20] = shifted[80:] = False
    assert position(shifted) == "centre" and position_holds("left", shifted)
    assert not position_holds("left", np.roll(shifted, 2, axis=1))


def test_measured_positions_hold_what_the_generator_says(scenes):
    for scene in scenes:
        for mask, attributes in zip(scene.masks, scene.attributes, strict=True):
            assert position_holds(attributes.position, mask)
            assert set(attributes.colors) <= measured_colors(scene.image, mask)


def test_measured_colors():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:, 5:] = 242
    left = np.zeros((10, 10), bool)
    left[:, :5] = True
    assert measured_colors(image, left) == {"black"}
    assert measured_colors(image, np.ones_like(left)) == {"black", "white"}
    assert measured_colors(image, np.zeros_like(left)) == frozenset()
    image[:, 4] = (188, 40, 38)  # a fifth of the left
    assert measured_colors(image, left) >= {"black", "red"}
    image[0, 4] = 18
    assert "red" not in measured_colors(image, np.ones_like(left))  # nine of a hundred


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("stripes", "striped"),
        ("grassy", "grass"),
        ("wooden", "wood"),
        ("speckled", "speckles"),
        ("pebbles", "pebble"),
        ("tiles", "tiled"),
        ("leaves", "leaf"),
        ("running", "run"),
    ],
)
def test_stems(a, b):
    assert stem(a) == stem(b)


def test_words_that_are_compared():
    words = matching_words("Texture of dark gray pebbles in the background")
    assert {"color:dark grey", "color of:grey", "pattern:pebbles", "position:surrounding"} <= set(
        words
    )
    assert not {"texture", "of", "the", "gray"} & set(words)


SHELL = "Texture of a brown shell with white mosaic patterns in the foreground"
SAND = "Texture of sandy seabed with beige tones, forming the background"


@pytest.mark.parametrize(
    ("generated", "expected", "incomplete"),
    [
        ([SHELL, SAND], 1.0, 0),
        ([SAND, SHELL], 0.0, 0),
        ([SHELL, SHELL], 0.5, 0),
        (["brown and white patterns in the centre", "beige grains around the middle"], 1.0, 0),
        (["", ""], 0.5, 1),
        (["", SAND], 1.0, 1),
        (["", SHELL], 0.0, 1),
        (["zzz", "qqq"], 0.5, 0),
    ],
)
def test_two_way_matching(generated, expected, incomplete):
    result = score_matching([(generated, [SHELL, SAND])], 10)
    assert result["accuracy"] == expected and result["n_incomplete"] == incomplete
    assert result["n_ties"] == (expected == 0.5)


def test_similarity():
    similarity = Similarity([SHELL, SAND])
    assert similarity(SHELL, SHELL) == pytest.approx(1.0)
    assert similarity(SHELL, SAND) == similarity(SAND, SHELL) < 0.2
    # A word that both published sentences have weighs less than one that parts them.
    common = Similarity(["shell sand", "shell rock"])
    assert common("sand", "shell sand") > common("shell", "shell sand") > 0.0


@pytest.mark.parametrize(
    ("sentence", "why"),
    [
        ("Texture of brown wood grain on the left", None),
        ("Texture of brown wood grain, on the left.", None),
        ("", "empty"),
        (" .. ", "empty"),
        ("Texture of brown wood grain <|seg", "characters"),
        ("Texture of wood_grain on the left", "characters"),
        ("Texture of \ufffdbrown wood on the left", "characters"),
        (", of brown wood on the left", "characters"),
        ("Texture of  brown wood on the left", "characters"),
        ("Texture of brown wood grain on the", "cut off"),
        ("Texture of brown wood grain and,", "cut off"),
        ("Texture of brown wood grain (on the left", "cut off"),
        ("Texture of brown brown wood on the left", "repeated"),
        ("Texture of dark red and dark red wood on the left", "repeated"),
        ("Texture of dark red and red wood on the left", None),
        ("Texture of red and dark red wood on the left", None),
        ("Texture of fine fine-grained specks on the left", None),
        ("Texture of brownish woood on the left", "unknown word"),
    ],
)
def test_broken_text(sentence, why):
    assert broken_because(sentence, build_lexicon([])) == why
    if why in (None, "unknown word"):
        assert broken_because(sentence, None) is None


def test_lexicon_knows_the_generator(scenes):
    lexicon = build_lexicon([])
    texts = [text for scene in scenes for text in scene.descriptions]
    assert [broken_because(text, lexicon) for text in texts] == [None] * len(texts)
    assert "third" in lexicon and "qwerty" not in lexicon
    assert "qwerty" in build_lexicon(["Qwerty keys"])


def test_form():
    good = "Texture of brown wood grain with low contrast on the left"
    other = "Texture of grey stacked bricks with low contrast on the right"
    images = [[good, other], [good, good + "."], [good, "Texture of dots"], ["", good], []]
    result = score_form(images, build_lexicon([]), 50)
    shares = [result[name] for name in ("distinct", "length", "whole", "all")]
    assert shares == pytest.approx([3 / 5, 2 / 5, 3 / 5, 1 / 5])
    assert result["sentences"]["n"] == 8 and result["sentences"]["why_broken"] == {"empty": 1}
    strange = score_form([["Texture of blibber blabber in brown and grey on top"]], frozenset(), 5)
    assert strange["whole"] == 0.0 and strange["unknown_words"]["blibber"] == 1
