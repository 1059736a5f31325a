"""Plain images of a bank's textures, with sentences."""

import numpy as np
import pytest
import torch

from detecture.config import make_config
from detecture.data import DATASET_MAPPER_REGISTRY
from detecture.data.bank_mappers import SwatchMapper
from detecture.data.datasets.from_bank import SWATCHES
from detecture.data.lexicon.positions import position
from detecture.data.synthetic.bank import draw_texture, open_bank, plan_texture
from detecture.data.synthetic.swatches import compose_swatches
from detecture.errors import ConfigError

FIRST, COUNT = 7, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    open_bank(folder, COUNT, FIRST)
    return folder


@pytest.fixture(scope="module")
def bank(folder):
    return open_bank(folder, COUNT, FIRST)


def test_the_same_at_every_call(bank):
    for index in range(4):
        scene, same = (compose_swatches(bank, FIRST, 5, index, 64) for _ in range(2))
        assert scene.digest() == same.digest()
        assert scene.descriptions == same.descriptions
        assert scene.attributes == same.attributes


def test_every_pixel_belongs_to_one_region_with_a_sentence(bank):
    counts = set()
    for index in range(12):
        scene = compose_swatches(bank, FIRST, 5, index, 64)
        assert (scene.masks.sum(axis=0) == 1).all()
        assert len(scene.masks) == len(set(scene.descriptions)) == len(scene.attributes)
        counts.add(len(scene.masks))
    assert counts == {1, 2, 3, 4}


def test_what_is_said_is_true(bank):
    known = {plan_texture(FIRST + place).family for place in range(COUNT)}
    for index in range(12):
        scene = compose_swatches(bank, FIRST, 5, index, 96)
        for mask, attributes in zip(scene.masks, scene.attributes, strict=True):
            assert attributes.family in known
            assert attributes.position == position(mask)
            mean = scene.image[mask].mean(axis=0)
            assert np.abs(mean - attributes.mean_color).max() <= 0.51


def test_a_region_shows_the_texture_that_it_names():
    # One texture in the bank: the image is a window of it, so much coarser as it is smaller.
    number = 11
    texture, plan = draw_texture(number), plan_texture(number)
    scene = next(
        scene
        for index in range(40)
        if len((scene := compose_swatches(texture[None], number, 5, index, 256)).masks) == 1
    )
    zoom = scene.attributes[0].period / plan.style.period
    assert 1.0 <= zoom <= 1 / 0.6 + 0.01
    window = round(256 / zoom)
    best = np.inf
    small = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(small, (window, window), mode="area")[0]
    wanted = small.permute(1, 2, 0).numpy()
    # Every place of the window is tried, on every eighth pixel.
    for row in range(256 - window + 1):
        for column in range(256 - window + 1):
            cut = texture[row : row + window : 8, column : column + window : 8]
            best = min(best, float(np.abs(cut - wanted[::8, ::8]).mean()))
    assert best < 0.25 * texture.std()


def test_the_mapper_trains_and_does_nothing_else(folder):
    words = ["INPUT.TEXTURE_BANK.FOLDER", str(folder), "INPUT.TEXTURE_BANK.COUNT", str(COUNT)]
    words += ["INPUT.TEXTURE_BANK.FIRST", str(FIRST), "INPUT.TRAIN_SIZE", "64"]
    cfg = make_config(None, words)
    mapper = DATASET_MAPPER_REGISTRY.get("SwatchMapper")(cfg, True, dataset_name=SWATCHES.name)
    assert isinstance(mapper, SwatchMapper)
    mapped = mapper(SWATCHES[3])
    assert mapped["image"].shape == (3, 64, 64) and mapped["image"].dtype == torch.uint8
    numbers = mapped["sem_seg"].unique().tolist()
    assert numbers == list(range(1, len(mapped["descriptions"]) + 1))
    scene = compose_swatches(open_bank(folder, COUNT, FIRST), FIRST, SWATCHES.seed, 3, 64)
    assert mapped["descriptions"] == scene.descriptions
    with pytest.raises(ConfigError, match="synthetic_swatches is for training only"):
        SwatchMapper(cfg, False, dataset_name=SWATCHES.name)
