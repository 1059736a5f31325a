"""Edition 2: its own images, true sentences, regions that vary and stay one; edition 1 stays."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from detecture.data.lexicon.phrases import POSITION_PHRASES
from detecture.data.synthetic import FAMILIES, LAYOUTS, render_scene
from detecture.data.synthetic.attributes import describe_region
from detecture.data.synthetic.families import Style, draw_family
from detecture.data.synthetic.layouts import LEAST_SHARE, divide
from detecture.data.synthetic.moods import draw_natural_mood
from detecture.data.synthetic.texture import draw_plan, render
from detecture.data.synthetic.variation import Variation, draw_variation, render_varied
from detecture.errors import DatasetError

ADDRESSES = [(5, 3), (5, 900), (6, 3), (2**40, 7)]
FILLERS = {
    "Texture", "of", "in", "with", "a", "an", "running", "lines", "shades", "tones", "surface",
    "pattern",
}  # fmt: skip
CLAIMS = {
    **{word: ("scale", word) for word in ("fine", "coarse")},
    "medium-sized": ("scale", "medium"),
    **{word: ("regularity", word) for word in ("regular", "irregular")},
    **{word: ("orientation", word) for word in ("horizontal", "vertical", "diagonal")},
    **{f"{word}ly": ("orientation", word) for word in ("horizontal", "vertical", "diagonal")},
    "low-contrast": ("contrast", "low"),
    "moderate-contrast": ("contrast", "medium"),
    "high-contrast": ("contrast", "high"),
}


def draw(address):
    return render_scene(*address, 96, edition=2)


def test_an_address_has_one_image():
    first = [draw(address) for address in ADDRESSES]
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(pool.map(draw, ADDRESSES[::-1]), first[::-1], strict=True):
            assert one.digest() == other.digest() and one.descriptions == other.descriptions
    assert len({scene.digest() for scene in first}) == len(first)
    assert render_scene(*ADDRESSES[0], 96).digest() != first[0].digest()


def test_edition_one_does_not_see_what_is_added(monkeypatch):
    before = render_scene(3, 7, 64).digest()
    family = replace(FAMILIES["stripes"], name="later", weight=50.0, edition=2)
    monkeypatch.setitem(FAMILIES, "later", family)
    monkeypatch.setitem(LAYOUTS, "later", replace(LAYOUTS["strips"], weight=50.0, edition=2))
    assert render_scene(3, 7, 64).digest() == before


@pytest.mark.parametrize("edition", [0, 3])
def test_unknown_edition(edition):
    with pytest.raises(DatasetError, match=f"edition {edition}: .* editions 1 to 2"):
        render_scene(0, 0, 64, edition=edition)


def test_regions(natural_scenes):
    for scene in natural_scenes:
        count = len(scene.masks)
        assert 1 <= count <= 6 and count == len(scene.attributes) == len(scene.families)
        assert scene.masks.sum(axis=0).max() == 1
        assert scene.masks.mean(axis=(1, 2)).min() >= LEAST_SHARE
        assert scene.image.dtype == np.uint8 and scene.image.shape == (*scene.masks.shape[1:], 3)
    counts = Counter(len(scene.masks) for scene in natural_scenes)
    due = len(natural_scenes) / 6
    assert sum((counts[k] - due) ** 2 / due for k in range(1, 7)) < 15.1


@pytest.mark.parametrize("edition", [1, 2])
def test_an_edition_draws_all_that_it_has(edition):
    rng = np.random.default_rng(0)
    families = {draw_family(rng, edition) for _ in range(4000)}
    layouts = {divide(rng, (32, 32), 3, edition=edition).name for _ in range(400)}
    assert families == {name for name, kind in FAMILIES.items() if kind.edition <= edition}
    assert layouts == {name for name, kind in LAYOUTS.items() if kind.edition <= edition}


def test_images_show_what_is_new(natural_scenes):
    new = {name for name, kind in FAMILIES.items() if kind.edition == 2}
    assert len(FAMILIES) >= 36 and len(new) >= 7
    assert new <= {name for scene in natural_scenes for name in scene.families}
    assert {"perspective", "thin", "occlusion", "limbed", "single"} <= {
        scene.layout for scene in natural_scenes
    }


def test_sentences_say_true_attributes_only(natural_regions):
    said, forms = set(), set()
    for _, _, region, sentence in natural_regions:
        words = sentence.split()
        assert words[:2] == ["Texture", "of"] and 10 <= len(words) <= 15, sentence
        if "largest region" in sentence:
            continue
        rest = f" {sentence} ".replace(",", "")
        place = max((p for p in POSITION_PHRASES[region.position] if f" {p} " in rest), key=len)
        assert region.noun in rest and region.noun in FAMILIES[region.family].nouns
        rest = rest.replace(f" {place} ", " PLACE ").replace(f" {region.noun} ", " NOUN ")
        colors = " and ".join(region.colors)
        if "mostly" in rest:
            colors = f"mostly {' with '.join(region.colors)}"
        assert f" {colors} " in rest, sentence
        rest = rest.replace(f" {colors} ", " COLOR ")
        for value, word in (("low", "low"), ("medium", "moderate"), ("high", "high")):
            if f"{word} contrast" in rest:
                assert region.contrast == value, sentence
                rest = rest.replace(f"{word} contrast", " ")
        for word in rest.split():
            if word in CLAIMS:
                name, value = CLAIMS[word]
                assert getattr(region, name) == value, sentence
                said.add(name)
            else:
                assert word in FILLERS | {"NOUN", "COLOR", "PLACE"}, sentence
        forms.add(tuple(word for word in rest.split() if word.isupper()))
    assert said == {"scale", "regularity", "orientation", "contrast"}
    assert len(forms) == 3  # orders of noun, colour and place; places may end the sentence or not


def test_sentences_of_a_image_differ(natural_scenes):
    assert all(len(set(scene.descriptions)) == len(scene.masks) for scene in natural_scenes)


def test_the_largest_region_often_varies_and_has_one_label(natural_scenes):
    whole = [s for s in natural_scenes if s.layout == "single"]
    assert all(scene.masks.shape[0] == 1 and scene.masks.all() for scene in whole)
    largest = [int(np.argmax(s.masks.mean(axis=(1, 2)))) in s.varied for s in natural_scenes]
    assert 0.4 < np.mean(largest) < 0.75
    assert any(scene.varied for scene in whole)


def striped_plan():
    rng = np.random.default_rng(1)
    plan = draw_plan(rng, 128, draw_natural_mood(rng), "stripes", edition=2)
    palette = np.array([(20.0, 20, 20), (220, 220, 220)])
    return replace(plan, style=Style(12.0, np.pi / 2, 0.0, 0.9), palette=palette, ground=None,
                   invert=False, relief=0.0, drift=0.0, grain=0.0, blur=0.0)  # fmt: skip


def changes(rows):
    """Number of crossings of the mean from dark to light or back, along rows (N,W)."""
    light = rows > rows.mean()
    return int((light[:, 1:] != light[:, :-1]).sum())


def test_a_receding_pattern_is_finer_far_away():
    rng = np.random.default_rng(0)
    image = render_varied(rng, striped_plan(), Variation(distance=3.0), (128, 128))[..., 0]
    assert changes(image[5:25]) > 1.8 * changes(image[-25:-5])
    flat = render(rng, striped_plan(), (128, 128))[..., 0]
    assert changes(flat[5:25]) == pytest.approx(changes(flat[-25:-5]), rel=0.15)


def test_scale_is_not_named_where_it_varies():
    image = np.zeros((32, 32, 3), np.uint8)
    mask = np.ones((32, 32), bool)
    one, varied = (describe_region(image, mask, striped_plan(), kept) for kept in (True, False))
    assert one.scale == "coarse" and one.regularity == "regular"
    assert varied.scale == varied.regularity == "none"


def test_each_variation_changes_the_pixels_and_keeps_their_shape():
    plan, rng = striped_plan(), np.random.default_rng
    same = render_varied(rng(3), plan, Variation(), (40, 60))
    assert np.array_equal(same, render(rng(3), plan, (40, 60)))
    kinds = set()
    for seed in range(60):
        drawn = draw_variation(rng(seed), 128, np.array([(120.0, 90, 60)]), plan)
        changed = {
            name for name in Variation.__dataclass_fields__
            if name != "second" and getattr(drawn, name) != getattr(Variation(), name)
        } | ({"second"} if drawn.second is not None else set())  # fmt: skip
        kinds |= changed
        made = render_varied(rng(3), plan, drawn, (40, 60))
        assert made.shape == (40, 60, 3) and np.isfinite(made).all()
        assert (changed <= {"far"}) == np.array_equal(made, same)
    assert kinds == {"distance", "far", "second", "light", "focus", "sprinkle"}


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 3)])
def test_small_windows(shape):
    """Thin regions are drawn in windows of a few pixels."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(FAMILIES):
        plan = draw_plan(rng, 64, draw_natural_mood(rng), name, edition=2)
        variation = draw_variation(np.random.default_rng(number), 64, plan.palette, plan)
        made = render_varied(rng, plan, replace(variation, distance=2.0, volume=0.3), shape)
        assert made.shape == (*shape, 3) and np.isfinite(made).all()


def test_images_are_neither_black_nor_white_and_some_are_grey(natural_scenes):
    means = np.array([scene.image.mean() for scene in natural_scenes])
    assert means.min() > 15 and means.max() < 245
    grey = [np.ptp(scene.image.astype(int), axis=2).max() == 0 for scene in natural_scenes]
    assert 0.01 < np.mean(grey) < 0.12
