"""What sentences claim, in the generator's words and in others, in any order."""

import numpy as np
import pytest

from detecture.data.lexicon.color_names import COLOR_NAMES
from detecture.data.lexicon.phrases import (
    CONTRAST_PHRASES,
    CONTRAST_WORDS,
    ORIENTATION_PHRASES,
    POSITION_PHRASES,
    SCALE_WORDS,
)
from detecture.data.synthetic import FAMILIES, render_scene
from detecture.data.synthetic.editions import FIRST_EDITION, LATEST_EDITION
from detecture.evaluation.words.attributes import ROWS, claims_by_row, true_values
from detecture.evaluation.words.parser import parse_sentence
from detecture.evaluation.words.vocabulary import (
    ATTRIBUTES,
    NEAR_FAMILIES,
    color_basic,
    color_phrases,
    near_families,
)

SEED = 4711


def claimed(text, attribute):
    return [set(claim) for claim in parse_sentence(text).claims.get(attribute, ())]


@pytest.mark.parametrize("edition", range(FIRST_EDITION, LATEST_EDITION + 1))
def test_true_sentences_claim_nothing_but_the_truth(scenes, edition):
    """Of every edition of the grammar; and no row passes for want of claims."""
    named = dict.fromkeys(ROWS, 0)
    if edition != FIRST_EDITION:
        scenes = [render_scene(SEED, index, 96, edition=edition) for index in range(50)]
    for scene in scenes:
        for region, text in zip(scene.attributes, scene.descriptions, strict=True):
            truth = true_values(region)
            for row, claims in claims_by_row(parse_sentence(text).claims).items():
                assert all(claim & truth[row] for claim in claims), (text, row)
                named[row] += len(claims)
            assert claimed(text, "pattern") and claimed(text, "color"), text
    assert all(named[row] > 2 for row in ROWS)


@pytest.mark.parametrize("name", COLOR_NAMES)
def test_every_color_is_its_own_name(name):
    assert claimed(f"Texture of {name} dots on the left", "color") == [{name}]
    assert claimed(f"dots in {name}", "color") == [{name}]
    assert claimed(f"dots in tones of {name} and white", "color")[0] == {name}
    if "grey" in name:
        assert claimed(name.replace("grey", "gray"), "color") == [{name}]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_noun_is_of_its_family(family):
    for noun in FAMILIES[family].nouns:
        sentence = parse_sentence(f"Texture of regular {noun} in brown at the top")
        assert sentence.claims["pattern"] == (frozenset({family}),), noun
        assert sentence.claims["noun"] == (frozenset({noun.replace("-", " ")}),)
        assert set(sentence.claims) == {"noun", "pattern", "regularity", "color", "position"}


@pytest.mark.parametrize(
    ("attribute", "table"),
    [
        ("position", POSITION_PHRASES),
        ("scale", {k: (v,) for k, v in SCALE_WORDS.items()}),
        ("contrast", {k: (v,) for k, v in CONTRAST_WORDS.items()}),
        ("contrast", {k: (v,) for k, v in CONTRAST_PHRASES.items()}),
        ("orientation", {k: (v,) for k, v in ORIENTATION_PHRASES.items()}),
    ],
)
def test_every_phrase_of_the_grammar(attribute, table):
    for value, phrases in table.items():
        for phrase in phrases:
            for text in (f"Texture of dots {phrase}", f"{phrase.capitalize()}: brown dots."):
                assert claimed(text, attribute) == [{value}], text
                assert set(parse_sentence(text).claims) <= {attribute, "noun", "pattern", "color"}


@pytest.mark.parametrize(
    ("text", "attribute", "expected"),
    [
        ("bold black-and-white squares", "color", [{"black"}, {"white"}]),
        ("a yellow-brown lawn", "color", [{"yellow", "brown"}]),
        ("reddish-brown sand", "color", [{"brown"}]),
        ("reddish brown sand", "color", [{"brown"}]),
        ("pale gray walls", "color", [{"light grey"}]),
        ("deep blue sea, navy at the top", "color", [{"dark blue"}, {"dark blue"}][:1]),
        ("varied greens", "color", [{"green"}]),
        ("light brown sand", "color", [{"tan", "brown"}]),
        ("an off-white vent", "color", [{"white", "beige"}]),
        ("light-colored planks", "color", []),
        ("fine-grained specks", "scale", []),
        ("large-scale, fine bands", "scale", [{"coarse"}, {"fine"}]),
        ("small dots", "scale", [{"fine"}]),
        ("the second largest region", "scale", []),
        ("medium contrast", "scale", []),
        ("evenly spaced bars", "regularity", [{"regular"}]),
        ("even blotches", "regularity", []),
        ("contrast is rather high here", "contrast", [{"high"}]),
        ("strongly contrasting lines", "contrast", [{"high"}]),
        ("faint contrast", "contrast", [{"low"}]),
        ("contrasting lines", "contrast", []),
        ("high walls", "contrast", []),
        ("lines from left to right", "orientation", [{"horizontal"}]),
        ("lines from left to right", "position", []),
        ("slanted stripes", "orientation", [{"diagonal"}]),
        ("top-left region", "position", [{"upper left"}]),
        ("in the right lower part", "position", [{"lower right"}]),
        ("on the left and at the bottom", "position", [{"left"}, {"bottom"}]),
        ("centered, framing the tile", "position", [{"centre"}, {"surrounding"}]),
        ("all around the centre", "position", [{"surrounding"}]),
        ("filling the entire image", "position", [{"whole"}]),
        ("the entire left side", "position", [{"left"}]),
        ("covering most of an image", "position", [{"most"}]),
        ("scattered across the scene", "position", [{"spread"}]),
        ("scattered flakes", "position", []),
        ("dappled leaves", "pattern", [{"leaves", "foliage"}]),
        ("one leaf", "pattern", [{"leaves", "foliage"}]),
        ("striped tarpaulin", "pattern", [{"stripes", "tiger"}]),
        ("a grey surface of woven threads in vertical lines", "pattern", [{"weave"}]),
        ("grey blotches", "pattern", [{"clouds", "blotches"}]),
        ("", "color", []),
        ("...", "position", []),
    ],
)  # fmt: skip
def test_free_sentences(text, attribute, expected):
    assert claimed(text, attribute) == expected


def test_order_is_free(scenes):
    """The parts of a sentence say the same when they stand the other way round."""
    parts = ["on the left", "with low contrast", "running vertically", "dark grey and tan",
             "wood grain"]  # fmt: skip
    first = parse_sentence(" ".join(parts)).claims
    assert set(first) == {*ATTRIBUTES, "noun"} - {"scale", "regularity"}
    generator = np.random.default_rng(0)
    for _ in range(10):
        other = parse_sentence(", ".join(generator.permutation(parts))).claims
        assert other == first


def test_basic_colors():
    basic = {name: color_basic(name) for name in COLOR_NAMES}
    assert basic["dark grey"] == "grey" and basic["slate blue"] == "blue"
    assert basic["olive"] == "green" and basic["tan"] == "brown" and basic["red"] == "red"
    assert set(basic.values()) < set(COLOR_NAMES)


def test_tables_name_what_exists():
    assert all(group <= set(FAMILIES) and len(group) > 1 for group in NEAR_FAMILIES)
    assert all(claim and claim <= set(COLOR_NAMES) for claim in color_phrases().values())
    assert near_families("maze") >= {"maze", "crackle"} and near_families("motifs") == {"motifs"}
