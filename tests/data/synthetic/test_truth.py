"""What sentences and attributes say is true of the pixels and masks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from detecture.data.lexicon.attributes import (
    COARSE_FROM,
    FINE_BELOW,
    HIGH_CONTRAST_FROM,
    LOW_CONTRAST_BELOW,
    direction_name,
    structure,
)
from detecture.data.lexicon.color_names import COLOR_NAMES, SECOND_SHARE, color_name, color_names
from detecture.data.lexicon.lab import lab_to_rgb, rgb_to_lab
from detecture.data.lexicon.phrases import POSITION_PHRASES
from detecture.data.lexicon.positions import position
from detecture.data.synthetic import FAMILIES
from detecture.data.synthetic.sentences import _padded, write_sentences

# What each word claims: (attribute, value).
CLAIMS = {
    "fine": ("scale", "fine"),
    "medium-sized": ("scale", "medium"),
    "coarse": ("scale", "coarse"),
    "regular": ("regularity", "regular"),
    "irregular": ("regularity", "irregular"),
    "horizontal": ("orientation", "horizontal"),
    "vertical": ("orientation", "vertical"),
    "diagonal": ("orientation", "diagonal"),
    "horizontally": ("orientation", "horizontal"),
    "vertically": ("orientation", "vertical"),
    "diagonally": ("orientation", "diagonal"),
    "low-contrast": ("contrast", "low"),
    "moderate-contrast": ("contrast", "medium"),
    "high-contrast": ("contrast", "high"),
}


def test_form_of_sentences(scenes):
    for scene in scenes:
        assert len(set(scene.descriptions)) == len(scene.descriptions)
        for sentence in scene.descriptions:
            assert sentence.startswith("Texture of ")
            assert 10 <= len(sentence.split()) <= 15, sentence


def test_every_word_of_a_sentence_is_an_attribute(regions):
    said = set()
    for scene, mask, region, sentence in regions:
        rest = f" {sentence} "
        for phrase in sorted(POSITION_PHRASES[region.position], key=len, reverse=True):
            rest = rest.replace(f" {phrase}", " ")
        if "largest region" in rest:
            areas = sorted((m.mean() for m in scene.masks), reverse=True)
            ordinals = ("the largest", "second", "third", "fourth", "fifth", "sixth")
            assert ordinals[areas.index(mask.mean())] in rest
            continue
        assert region.noun in rest and region.noun in FAMILIES[region.family].nouns
        rest = rest.replace(region.noun, " ")
        colors = " and ".join(region.colors)
        assert f" {colors} " in rest
        rest = rest.replace(f" {colors} ", " ")
        for value, phrase in (("low", "low"), ("medium", "moderate"), ("high", "high")):
            if f"with {phrase} contrast" in rest:
                assert region.contrast == value
                rest = rest.replace(f"with {phrase} contrast", " ")
        for word in rest.split():
            if word in CLAIMS:
                name, value = CLAIMS[word]
                assert getattr(region, name) == value
                said.add(name)
            else:  # a claim that this test does not know would end up here
                assert word in {"Texture", "of", "in", "running", "shades", "tones"}, sentence
    assert said == {"scale", "regularity", "orientation", "contrast"}


def test_colors_are_those_of_the_pixels(regions):
    for scene, mask, region, _ in regions:
        lab = rgb_to_lab(scene.image[mask])
        mean = lab.mean(axis=0)
        assert np.abs(scene.image[mask].mean(axis=0) - region.mean_color).max() <= 0.51
        if len(region.colors) == 1:
            own = np.linalg.norm(rgb_to_lab(np.array(COLOR_NAMES[region.colors[0]])) - mean)
            nearest = min(
                np.linalg.norm(rgb_to_lab(np.array(rgb)) - mean) for rgb in COLOR_NAMES.values()
            )
            assert own < nearest + 2.0  # the name is taken from a sample of the pixels
            continue
        # The pixels nearer to one named colour than to the other: their mean is near its entry.
        entries = [rgb_to_lab(np.array(COLOR_NAMES[name])) for name in region.colors]
        distances = np.stack([np.linalg.norm(lab - entry, axis=1) for entry in entries])
        parts = distances.argmin(axis=0)
        for part in (0, 1):
            assert np.mean(parts == part) > 0.04
        assert np.linalg.norm(mean - np.mean(entries, axis=0)) < 35


def test_contrast_is_that_of_the_pixels(regions):
    for scene, mask, region, _ in regions:
        deviation = rgb_to_lab(scene.image[mask])[:, 0].std()
        assert abs(deviation - region.contrast_value) < 0.05 * deviation + 0.5
        value = region.contrast_value
        due = "low" if value < LOW_CONTRAST_BELOW else "medium"
        assert region.contrast == ("high" if value >= HIGH_CONTRAST_FROM else due)


def test_scale_and_regularity_are_those_drawn(regions):
    for scene, _, region, _ in regions:
        family = FAMILIES[region.family]
        share = region.period / len(scene.image)
        if family.periods is None:
            assert region.scale == "none"
        else:
            due = "coarse" if share >= COARSE_FROM else "medium"
            assert region.scale == ("fine" if share < FINE_BELOW else due)
        assert (region.regularity == "none") == (not family.regularity)


def differences(image, mask, down, right):
    """Mean change of the greys over a step, inside the mask."""
    grey = image.astype(float).mean(axis=2)
    moved, moved_mask = (np.roll(a, (down, right), (0, 1)) for a in (grey, mask))
    both = mask & moved_mask
    edge = max(abs(down), abs(right))
    both[:edge] = both[-edge:] = both[:, :edge] = both[:, -edge:] = False
    return np.abs(grey - moved)[both].mean() if both.sum() > 50 else None


def test_named_orientations_are_seen_in_the_pixels(regions):
    """Along the lines the image changes less than across them."""
    checked = agreed = 0
    for scene, mask, region, _ in regions:
        if region.orientation == "none":
            continue
        assert FAMILIES[region.family].oriented
        assert region.orientation == direction_name(region.angle)
        steps = {"horizontal": ((0, 2), (2, 0)), "vertical": ((2, 0), (0, 2))}
        rising = region.angle < 90
        diagonal = ((-2, 2), (2, 2)) if rising else ((2, 2), (-2, 2))
        along, across = steps.get(region.orientation, diagonal)
        values = [differences(scene.image, mask, *step) for step in (along, across)]
        if None not in values:
            checked += 1
            agreed += values[0] < values[1]
    assert checked > 50
    # Stripes of a period of four pixels repeat after the step; nothing else may disagree.
    assert agreed >= 0.97 * checked


def test_positions_are_those_of_the_masks(regions):
    seen = set()
    for _, mask, region, _ in regions:
        down, right = ((np.nonzero(mask)[i].mean() + 0.5) / len(mask) for i in (0, 1))
        words = set(region.position.split())
        seen |= words
        assert region.area == pytest.approx(mask.mean())
        if words & {"top", "upper"}:
            assert down < 0.42
        if words & {"bottom", "lower"}:
            assert down > 0.58
        if "left" in words:
            assert right < 0.42
        if "right" in words:
            assert right > 0.58
        if "whole" in words:
            assert mask.mean() >= 0.85
        if "most" in words:
            assert mask.mean() >= 0.5
        if "centre" in words:
            assert mask[len(mask) // 3 : -len(mask) // 3, len(mask) // 3 : -len(mask) // 3].any()
    assert {"whole", "surrounding", "centre", "most", "left", "upper"} <= seen


def test_positions_of_simple_masks():
    size = 60

    def mask(rows, columns):
        made = np.zeros((size, size), bool)
        made[rows, columns] = True
        return made

    everything = slice(None)
    assert position(mask(everything, everything)) == "whole"
    assert position(mask(everything, slice(0, 30))) == "left"
    assert position(mask(slice(30, None), everything)) == "bottom"
    assert position(mask(slice(0, 20), slice(40, None))) == "upper right"
    assert position(mask(slice(20, 40), slice(20, 40))) == "centre"
    assert position(~mask(slice(15, 45), slice(15, 45))) == "surrounding"
    assert position(~mask(slice(25, 35), slice(10, 50))) == "whole"
    assert position(~mask(slice(25, 35), slice(0, 50))) == "whole"
    assert position(~mask(slice(0, 30), slice(15, 45))) == "most"


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 120, 135, 178])
def test_structure_of_stripes(degrees):
    down, right = np.mgrid[:80, :80]
    across = right * np.sin(np.radians(degrees)) + down * np.cos(np.radians(degrees))
    image = np.repeat((128 + 100 * np.sin(across))[..., None], 3, axis=2).astype(np.uint8)
    coherence, found = structure(image, np.ones((80, 80), bool))
    assert coherence > 0.8
    assert min(abs(found - degrees), 180 - abs(found - degrees)) < 4


def test_structure_of_nothing():
    flat = np.full((20, 20, 3), 7, np.uint8)
    assert structure(flat, np.ones((20, 20), bool)) == (0.0, 0.0)
    line = np.zeros((20, 20), bool)
    line[3] = True
    assert structure(flat, line) == (0.0, 0.0)


def test_color_conversion():
    rgb = np.random.default_rng(0).uniform(0, 255, (200, 3))
    assert np.abs(lab_to_rgb(rgb_to_lab(rgb)) - rgb).max() < 0.01
    reference = pytest.importorskip("skimage.color").rgb2lab(rgb[None] / 255.0)[0]
    assert np.abs(rgb_to_lab(rgb) - reference).max() < 0.05


def test_color_names():
    for name, rgb in COLOR_NAMES.items():
        assert color_name(rgb_to_lab(np.array(rgb))) == name
    red, blue = (rgb_to_lab(np.array(COLOR_NAMES[name])) for name in ("red", "blue"))
    few = int(100 * SECOND_SHARE) - 2
    assert color_names(np.array([red] * 60 + [blue] * 40)) == ("red", "blue")
    assert color_names(np.array([red] * 40 + [blue] * 60)) == ("blue", "red")
    assert len(color_names(np.array([red] * few + [blue] * (100 - few)))) == 1
    assert color_names(np.array([red])) == ("red",)


@pytest.mark.parametrize("edition", [1, 2])
def test_regions_alike_in_all_attributes_get_other_sentences(regions, edition):
    """Six times the same region; and the shortest and longest of everything."""
    template = regions[0][2]
    families = [family for family in FAMILIES.values() if family.edition <= edition]
    nouns = [noun for family in families for noun in family.nouns]
    assert all(len(noun.split()) <= edition + 1 for noun in nouns)
    nouns = [min(nouns, key=lambda n: len(n.split())), max(nouns, key=lambda n: len(n.split()))]
    colors = (("red",), ("light blue",), ("dark grey", "slate blue"))
    rng = np.random.default_rng(0)
    for noun, names, place in itertools.product(nouns, colors, POSITION_PHRASES):
        region = replace(
            template, noun=noun, colors=names, position=place, scale="none", regularity="none",
            orientation="none", contrast="medium",
        )  # fmt: skip
        alike = [replace(region, area=0.3 - 0.04 * i) for i in range(6)]
        sentences = write_sentences(rng, alike, edition)
        assert len(set(sentences)) == 6
        for sentence in [*sentences, _padded(region)]:
            assert 10 <= len(sentence.split()) <= 15, sentence
