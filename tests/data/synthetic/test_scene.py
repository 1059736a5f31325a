"""Images: the same from one address always, with the promised regions."""

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from detecture.data.synthetic import FAMILIES, LAYOUTS, render_scene
from detecture.data.synthetic.compose import match_pixels
from detecture.data.synthetic.layouts import LEAST_SHARE, divide
from detecture.errors import DatasetError

ADDRESSES = [(5, 3), (5, 900), (6, 3), (5, 4), (2**40, 7), (5, 10**9)]
_IN_A_PROCESS = """
import sys
from detecture.data.synthetic import render_scene
for address in reversed(eval(sys.argv[1])):
    print(render_scene(*address, 96).digest())
"""


def digests():
    return [render_scene(*address, 96).digest() for address in ADDRESSES]


def test_an_address_has_one_image():
    first = digests()
    assert len(set(first)) == len(first)
    np.random.default_rng(1).random(5)
    assert digests() == first
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda a: render_scene(*a, 96).digest(), ADDRESSES * 2)
        assert list(found) == first * 2


def test_another_process_draws_the_same_in_another_order():
    """Also with other threads, and with numpy's code for newer processors switched off."""
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "3",
        "OPENBLAS_NUM_THREADS": "3",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",  # unknown ones only cause a warning
    }
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_PROCESS, repr(ADDRESSES)],
        capture_output=True,
        text=True,
        env=env,
        check=True,
    )
    assert done.stdout.split()[::-1] == digests()


def test_equal_scenes_in_all_fields():
    first, second = (render_scene(8, 1, 64) for _ in range(2))
    assert first.descriptions == second.descriptions and first.attributes == second.attributes
    assert (first.layout, first.families) == (second.layout, second.families)


def test_regions(scenes):
    for scene in scenes:
        count = len(scene.masks)
        assert 1 <= count <= 6
        assert scene.image.dtype == np.uint8 and scene.image.shape == (*scene.masks.shape[1:], 3)
        assert scene.masks.dtype == bool and scene.masks.sum(axis=0).max() == 1
        assert scene.masks.mean(axis=(1, 2)).min() >= LEAST_SHARE
        assert count == len(scene.descriptions) == len(scene.attributes) == len(scene.families)
        assert scene.families == tuple(a.family for a in scene.attributes)


def test_numbers_of_regions_are_uniform(scenes):
    counts = Counter(len(scene.masks) for scene in scenes)
    due = len(scenes) / 6
    chi_square = sum((counts[k] - due) ** 2 / due for k in range(1, 7))
    assert chi_square < 15.1  # 5 degrees of freedom: exceeded by chance once in a hundred


def test_unlabelled_share(scenes):
    shares = np.array([1.0 - scene.masks.any(axis=0).mean() for scene in scenes])
    some = shares > 0
    assert abs(some.mean() - 0.2) < 0.07
    assert shares[some].min() >= 0.05 and shares[some].max() <= 0.301


def test_families_and_layouts_are_all_drawn(scenes):
    families = {name for name, kind in FAMILIES.items() if kind.edition == 1}
    layouts = {name for name, kind in LAYOUTS.items() if kind.edition == 1}
    assert {name for scene in scenes for name in scene.families} == families
    assert {scene.layout for scene in scenes} == {*layouts, "single"}
    assert len(families) == 29 and len(layouts) == 10


def test_alike_regions(scenes):
    several = [scene for scene in scenes if len(scene.masks) > 1]
    same_mean = [scene for scene in several if scene.equal_mean]
    same_family = [scene for scene in several if scene.same_family]
    assert abs(len(same_mean) / len(several) - 0.3) < 0.08
    assert abs(len(same_family) / len(several) - 0.1) < 0.05
    assert abs(np.mean([scene.equal_contrast for scene in same_mean]) - 0.5) < 0.2
    for scene in same_family:
        first, second = scene.same_family
        assert scene.families[first] == scene.families[second] and first != second

    def distance(scene, pair):
        first, second = (np.array(scene.attributes[i].mean_color, float) for i in pair)
        return float(np.abs(first - second).mean())

    alike = np.median([distance(scene, scene.equal_mean) for scene in same_mean])
    others = np.median([distance(s, (0, 1)) for s in several if not s.equal_mean])
    assert alike < 0.4 * others  # the light comes later, so the means are not exactly equal


def test_match_pixels():
    rng = np.random.default_rng(0)
    pixels, target = rng.normal(60, 20, (500, 3)), rng.normal((120, 90, 150), 30, (400, 3))
    for contrast in (False, True):
        matched = match_pixels(pixels, target, contrast)
        assert np.abs(matched.mean(axis=0) - target.clip(0, 255).mean(axis=0)).max() < 0.5
    deviations = [np.std(colors.mean(axis=1)) for colors in (matched, target)]
    assert abs(deviations[0] / deviations[1] - 1.0) < 0.1
    extreme = match_pixels(pixels, np.full((4, 3), 255.0), False)
    assert extreme.max() <= 255.0 and extreme.mean() > 235


def test_wanted_numbers_of_regions():
    for count in range(1, 7):
        assert len(render_scene(2, 5, 64, count).masks) == count
    drawn = render_scene(2, 5, 64)
    assert render_scene(2, 5, 64, len(drawn.masks)).digest() == drawn.digest()


@pytest.mark.parametrize("size", [32, 64, 100, 200, 257])
def test_sizes(size):
    for index in range(4):
        scene = render_scene(1, index, size)
        assert scene.image.shape == (size, size, 3)
        assert scene.masks.mean(axis=(1, 2)).min() >= LEAST_SHARE


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_alone(name):
    scene = render_scene(3, 1, 64, 2, family=name, edition=FAMILIES[name].edition)
    assert scene.families == (name, name)
    assert scene.image.std() > 0.5


@pytest.mark.parametrize("unlabelled", [None, (0.05, 0.3)])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout(name, unlabelled):
    found = []
    for index in range(12):
        division = divide(np.random.default_rng(index), (48, 64), 3, unlabelled, name)
        shares = [np.mean(division.labels == i) for i in range(3)]
        assert min(shares) >= LEAST_SHARE
        rest = np.mean(division.labels < 0)
        assert rest == 0 if unlabelled is None else 0.05 <= rest <= 0.3
        found.append(division.name)
    assert name in found


def test_the_last_resort_of_layouts(monkeypatch):
    monkeypatch.setattr("detecture.data.synthetic.layouts._TRIES", 0)
    for count in range(1, 7):
        for index in range(10):
            rng = np.random.default_rng(index)
            labels = divide(rng, (32, 32), count, (0.05, 0.3)).labels
            assert 0.05 <= np.mean(labels < 0) <= 0.3
            assert min(np.mean(labels == i) for i in range(count)) >= LEAST_SHARE


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((-1, 0), "numbers from 0 on"),
        ((0, -1), "numbers from 0 on"),
        ((0, 0, 16), "size 16: procedural images have 32"),
        ((0, 0, 64, 7), "num_regions 7: an image has 1 to 6"),
        ((0, 0, 64, 0), "num_regions 0"),
    ],
)
def test_wrong_arguments(arguments, says):
    with pytest.raises(DatasetError, match=says):
        render_scene(*arguments)


def test_unknown_family():
    with pytest.raises(DatasetError, match=r"'strips' is unknown; known are .*stripes"):
        render_scene(0, 0, 64, family="strips")
