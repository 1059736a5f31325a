"""Some hundred scenes, drawn once for all tests (2,000 with DETECTURE_SLOW_TESTS=1)."""

import os

import pytest

from detecture.data.synthetic import render_scene

SLOW = os.environ.get("DETECTURE_SLOW_TESTS") == "1"
SEED, SIZE = 4711, 128


@pytest.fixture(scope="session")
def scenes():
    return [render_scene(SEED, index, SIZE) for index in range(2000 if SLOW else 300)]


@pytest.fixture(scope="session")
def natural_scenes():
    """The same of edition 2."""
    count = 2000 if SLOW else 180
    return [render_scene(SEED, index, SIZE, edition=2) for index in range(count)]


def _regions(scenes):
    return [
        (scene, *rest)
        for scene in scenes
        for rest in zip(scene.masks, scene.attributes, scene.descriptions, strict=True)
    ]


@pytest.fixture(scope="session")
def regions(scenes):
    """(scene, mask, attributes, sentence) of every region."""
    return _regions(scenes)


@pytest.fixture(scope="session")
def natural_regions(natural_scenes):
    """The same of edition 2."""
    return _regions(natural_scenes)
