"""The describer's look at textures, trained by itself: its classes, losses, and what is kept."""

import math
from dataclasses import replace

import pytest
import torch

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.config import make_config
from detecture.data.bank_mappers import SwatchMapper
from detecture.data.datasets.from_bank import SWATCHES
from detecture.data.synthetic import FAMILIES, render_scene
from detecture.data.synthetic.bank import open_bank
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling import build_model
from detecture.modeling.describer.draw import draw_regions
from detecture.modeling.describer.texture import CLASSES
from detecture.modeling.meta_arch import texture_classifier
from tests.micro import micro_overrides, training_batch

WIDTHS = ["MODEL.DESCRIBER.TEXTURE_WIDTHS", "(8,8,16,16)"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    open_bank(folder / "bank", 4)
    words = ["MODEL.META_ARCHITECTURE", "TextureClassifier", *WIDTHS, "INPUT.TRAIN_SIZE", "64"]
    words += ["INPUT.TEXTURE_BANK.FOLDER", str(folder / "bank"), "INPUT.TEXTURE_BANK.COUNT", "4"]
    return [*micro_overrides(folder / "micro"), *words]


def batch_of(config, indices):
    mapper = SwatchMapper(make_config(None, config), True, dataset_name=SWATCHES.name)
    return [mapper(SWATCHES[index]) for index in indices]


def build(config, *overrides):
    return build_model(make_config(None, [*config, *overrides])).train()


def test_every_attribute_of_every_scene_has_a_class():
    assert set(CLASSES["family"]) == set(FAMILIES)
    seen = {name: set() for name in CLASSES}
    for index in range(60):
        for region in render_scene(2, index, 64, edition=2).attributes:
            for name, values in CLASSES.items():
                assert getattr(region, name) in values
                seen[name].add(getattr(region, name))
    for name in ("orientation", "scale", "regularity", "contrast"):
        assert seen[name] == set(CLASSES[name])


def test_a_fresh_one_knows_nothing_and_learns(config):
    model, batch = build(config), batch_of(config, range(4))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    totals = []
    for step in range(40):
        losses = model([dict(sample) for sample in batch])
        if step == 0:  # the last layer is zero
            for name, values in CLASSES.items():
                assert losses[f"loss_{name}"].item() == pytest.approx(math.log(len(values)))
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.5 * totals[0]


def test_targets_are_those_of_the_regions_that_are_shown(config, monkeypatch):
    """With one answer for all, the losses are what the attributes of the drawn regions cost."""
    model = build(config, "MODEL.DESCRIBER.REGIONS_PER_IMAGE", "1")
    batch = batch_of(config, range(6))
    # Every region of an image differs from the others in the one attribute that is looked at.
    values = CLASSES["scale"]
    for sample in batch:
        sample["attributes"] = [
            replace(region, scale=values[place])
            for place, region in enumerate(sample["attributes"])
        ]
    odds = torch.randn(sum(map(len, CLASSES.values())), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.texture.head[-1].bias.copy_(odds)
    drawn = []

    def noted(sample, most, noise):
        drawn.append(draw_regions(sample, most, noise))
        return drawn[-1]

    monkeypatch.setattr(texture_classifier, "draw_regions", noted)
    losses = model(batch)
    start = len(CLASSES["family"]) + len(CLASSES["orientation"])
    costs = -odds[start : start + 4].log_softmax(dim=0)
    numbers = [number for regions in drawn for number in regions.numbers]
    assert len(numbers) == 6 and len(set(numbers)) > 1
    due = sum(float(costs[number]) for number in numbers) / 6
    assert float(losses["loss_scale"].detach()) == pytest.approx(due, rel=1e-4)
    # The numbers are those of the masks: without noise, these are the regions of the image.
    plain = draw_regions(batch[0], 4, 0.0)
    for mask, number in zip(plain.masks_RSS, plain.numbers, strict=True):
        assert torch.equal(mask, batch[0]["sem_seg"] == number + 1)


def test_halves_of_a_batch_add_up(config):
    model, batch = build(config), batch_of(config, range(4))
    torch.nn.init.normal_(model.texture.head[-1].weight)
    whole = model(batch)
    normalizers = model.loss_normalizers(batch)
    halves = [model(part, normalizers) for part in (batch[:1], batch[1:])]
    for name, loss in whole.items():
        assert loss.item() == pytest.approx(sum(half[name].item() for half in halves), rel=1e-4)


def test_a_describer_starts_from_it(config, tmp_path):
    trained = build(config)
    torch.nn.init.normal_(trained.texture.head[-1].weight)
    Checkpointer(trained, tmp_path).save("model")
    words = ["MODEL.META_ARCHITECTURE", "RegionDescriber", "MODEL.DESCRIBER.TEXTURE", "True"]
    words += ["LOSS.LM_WEIGHT", "1.0", "MODEL.VLM.PROMPTS", "describe"]
    words += ["MODEL.DESCRIBER.TEXTURE_WEIGHTS", str(tmp_path / "model.safetensors")]
    due = trained.texture.state_dict()
    look = build(config, *words).describer.texture.odds
    again = build(config, *words[-2:]).texture  # a classifier that goes on from it
    for own in (look, again):
        assert all(torch.equal(tensor, due[name]) for name, tensor in own.state_dict().items())
    wider = ["MODEL.DESCRIBER.TEXTURE_WIDTHS", "(8,8,16,24)"]
    with pytest.raises(CheckpointError, match=r"TEXTURE_WIDTHS.*trunk\.stage_16"):
        build(config, *words, *wider)


def test_what_it_cannot_do_is_said(config):
    model = build(config)
    with pytest.raises(ConfigError, match="synthetic_swatches"):
        model(training_batch((2,)))
    with pytest.raises(ConfigError, match="synthetic_swatches"):
        model.loss_normalizers(training_batch((2,)))
    with pytest.raises(ConfigError, match=r"DATASETS\.TEST"):
        model.eval()(batch_of(config, [0]))
    with pytest.raises(ConfigError, match="TEXTURE_WIDTHS"):
        build(config, "MODEL.DESCRIBER.TEXTURE_WIDTHS", "(8,8,16,20)")
