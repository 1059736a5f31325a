"""Names of regions: true, of one region alone, and never a held-out pair in training."""

from dataclasses import replace

import numpy as np
import pytest

from detecture.data.lexicon.attributes import RegionAttributes
from detecture.data.lexicon.color_names import COLOR_NAMES
from detecture.data.lexicon.color_words import color_basic
from detecture.data.synthetic import FAMILIES
from detecture.data.synthetic.combinations import combinations, draw_combinations
from detecture.data.synthetic.named_mosaics import Kind, Look, look_of
from detecture.data.synthetic.names import draw_name, draw_names, draw_others, is_held_out
from detecture.data.synthetic.nouns import kind_of_family, plain_nouns
from detecture.evaluation.words.parser import parse_sentence

KINDS = [kind_of_family(name) for name in FAMILIES]


def look(family, colors, position):
    attributes = RegionAttributes(
        family=family,
        noun="",
        colors=colors,
        orientation="none",
        scale="none",
        regularity="none",
        contrast="low",
        position=position,
        period=0.0,
        angle=None,
        coherence=0.0,
        contrast_value=0.0,
        area=0.5,
        mean_color=(0, 0, 0),
    )
    return Look(kind_of_family(family), attributes)


LEFT = look("bricks", ("red",), "left")
RIGHT = look("grass", ("green", "brown"), "right")


def test_every_family_has_plain_nouns_and_no_other_has():
    assert set(plain_nouns()) == set(FAMILIES)


def test_a_name_claims_what_is_true():
    for seed in range(200):
        name = draw_name(np.random.default_rng(seed), RIGHT)
        assert name.may_mean(RIGHT) and name.text
        read = parse_sentence(name.text).claims.get("position", ())
        places = frozenset().union(*read)
        assert not places or places & {"right", "centre", "surrounding"} == places & {"right"}


def test_names_are_of_one_region_alone():
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = draw_names(rng, [LEFT, RIGHT], 3)
        assert all(len(names) == 3 for names in drawn)
        every = [name for names in drawn for name in names]
        assert len(set(every)) == 6
        for text in drawn[1]:
            assert "red" not in text.split() and "bricks" not in text.split()


def test_regions_that_words_cannot_tell_apart_have_no_name():
    assert draw_names(np.random.default_rng(0), [LEFT, LEFT]) == [[], []]
    # .. but the place is a word.
    moved = replace(LEFT, attributes=replace(LEFT.attributes, position="right"))
    assert all(draw_names(np.random.default_rng(0), [LEFT, moved]))


def test_plain_names_have_a_colour_and_a_noun():
    (left,), (right,) = draw_names(np.random.default_rng(3), [LEFT, RIGHT], plain=True)
    assert left.startswith("red ") and right.startswith("green and brown ")


def test_names_of_what_is_not_there_mean_no_region():
    rng = np.random.default_rng(1)
    drawn = [pair for _ in range(40) for pair in draw_others(rng, [LEFT, RIGHT], KINDS, 3, 2)]
    others = [names for names, _ in drawn]
    assert 60 < len(others) <= 120 and all(others)
    assert not any(text in ("red bricks", "bricks", "grass") for names in others for text in names)


def test_a_part_of_the_pairs_is_held_out_and_every_word_is_in_others():
    held_out = {
        (color_basic(color), kind.name)
        for kind in KINDS
        for color in COLOR_NAMES
        if is_held_out(look(kind.name, (color,), "left"))
    }
    basics = {color_basic(color) for color in COLOR_NAMES}
    share = len(held_out) / (len(basics) * len(KINDS))
    assert 0.08 < share < 0.18
    for basic in basics:
        assert sum(pair[0] == basic for pair in held_out) < len(KINDS) // 2
    for kind in KINDS:
        assert sum(pair[1] == kind.name for pair in held_out) < len(basics) // 2
    assert is_held_out(look("bricks", ("red",), "left")) == is_held_out(
        look("bricks", ("dark red",), "top")
    )


def test_a_look_is_measured_on_the_pixels():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = COLOR_NAMES["orange"]
    mask = np.zeros((40, 40), bool)
    mask[:, 20:] = True
    seen = look_of(image, mask, Kind("mine", ("my wall",)))
    assert seen.attributes.colors == ("orange",) and seen.attributes.position == "right"
    assert look_of(image, ~mask & mask, Kind("mine", ("my wall",))) is None


@pytest.mark.parametrize("held_out", [False, True])
def test_images_of_pairs_of_words(held_out):
    pairs, others = combinations(held_out), combinations(not held_out)
    assert not set(pairs) & set(others) and len(pairs) + len(others) == 30
    assert {c for c, _ in pairs} == {c for c, _ in others}
    assert {f for _, f in pairs} == {f for _, f in others}
    image, labels = draw_combinations(9, 4, 48, held_out)
    again, _ = draw_combinations(9, 4, 48, held_out)
    assert image.shape == (48, 48, 3) and (image == again).all()
    assert 2 <= len(np.unique(labels)) <= 3 and labels.max() < len(pairs)
