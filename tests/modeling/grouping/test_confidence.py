"""Confidence of regions: its figures, its fit, and checkpoints with and without it."""

import hashlib

import numpy as np
import pytest
import torch

from detecture.checkpoint.shipped import MODELS
from detecture.checkpoint.weights_file import read_weights
from detecture.config import make_config
from detecture.config.sections.images import InputSettings, TextureBankSettings
from detecture.data.synthetic.bank_source import BankSource
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling import build_model
from detecture.modeling.grouping.confidence import FIGURE_NAMES, FIGURES, RegionConfidence
from detecture.modeling.grouping.confidence import region_figures as figures_of
from detecture.modeling.grouping.finder import Division, GridFeatures
from detecture.recipes.confidence_fit import (
    ASKED,
    CHOSEN,
    TOLD,
    CollectedRegions,
    calibration_error,
    collect_regions,
    fit_confidence,
    model_fingerprint,
)
from tests.modeling.grouping.test_texture_grouping import build, sample

GRID = (12, 12)


def features():
    """Two halves whose embeddings are orthogonal."""
    left_N = np.tile(np.arange(GRID[1]) < 6, GRID[0])
    embedding_NC = np.where(left_N[:, None], [1.0, 0.0], [0.0, 1.0])
    guide = torch.rand(1, 48, 48, generator=torch.Generator().manual_seed(0))
    zeros = np.zeros((144, 2))
    return GridFeatures(embedding_NC, zeros, zeros, GRID, guide), left_N


def column(figures_KF, name):
    return figures_KF[:, FIGURE_NAMES.index(name)]


def test_figures_of_two_clear_halves():
    found, left_N = features()
    posterior_NK = np.stack([np.where(left_N, 0.9, 0.2), np.where(left_N, 0.1, 0.8)], axis=1)
    figures_KF = figures_of(found, Division(posterior_NK, 0.7), -0.5)
    assert figures_KF.shape == (2, FIGURES) and np.isfinite(figures_KF).all()
    np.testing.assert_allclose(column(figures_KF, "sureness"), [0.9, 0.8])
    np.testing.assert_allclose(column(figures_KF, "margin"), [0.8, 0.6])
    np.testing.assert_allclose(column(figures_KF, "log_share"), np.log([0.5, 0.5]))
    np.testing.assert_allclose(column(figures_KF, "nearest"), [1.0, 1.0])
    np.testing.assert_allclose(column(figures_KF, "contrast"), np.log(1.01 / 0.01))
    np.testing.assert_allclose(column(figures_KF, "fragments"), [0.0, 0.0])
    assert set(column(figures_KF, "agreement")) == {0.7}
    assert set(column(figures_KF, "log_probability")) == {-0.5}
    told_KF = figures_of(found, Division(posterior_NK, 0.7), None)
    assert set(column(told_KF, "told")) == {1.0} and set(column(told_KF, "log_probability")) == {0}


def test_a_region_alone_and_one_without_a_cell():
    found, left_N = features()
    posterior_NK = np.stack([np.ones(144), np.zeros(144)], axis=1)
    figures_KF = figures_of(found, Division(posterior_NK, 1.0), 0.0)
    assert np.isfinite(figures_KF[0]).all() and np.isnan(figures_KF[1]).all()
    assert column(figures_KF, "alone")[0] == 1
    confidence = RegionConfidence()
    confidence.scale.fill_(1.0)
    answer_K = confidence(torch.from_numpy(figures_KF).float())
    assert answer_K.tolist() == [0.5, 0.0]
    one_KF = figures_of(found, Division(np.ones((144, 1)), 1.0), 0.0)
    assert np.isfinite(one_KF).all()
    assert left_N.any()


def made_regions(images=60, seed=0):
    """Regions that are right as a logistic model says, three of each image."""
    rng = np.random.default_rng(seed)
    figures_RF = rng.normal(size=(3 * images, FIGURES)).astype(np.float32)
    odds_R = 2.0 * figures_RF[:, 2] - figures_RF[:, 5] + 0.5
    right_R = rng.random(3 * images) < 1 / (1 + np.exp(-odds_R))
    iou_R = np.where(right_R, 0.8, 0.1).astype(np.float32)
    reason_R = np.tile([CHOSEN, TOLD, ASKED], images)
    return CollectedRegions(figures_RF, iou_R, np.repeat(np.arange(images), 3), reason_R)


def test_the_fit_finds_the_odds_and_is_better_than_a_constant():
    data, model = made_regions(800), RegionConfidence()
    assert not model.is_fitted
    figures = fit_confidence(model, data)
    assert model.is_fitted and not any(p.requires_grad for p in model.parameters())
    assert (model.weight / model.scale)[2].item() == pytest.approx(2.0, abs=0.4)
    assert (model.weight / model.scale)[5].item() == pytest.approx(-1.0, abs=0.3)
    assert figures["regions"] == 800
    assert figures["ece"] < 0.06 and figures["brier"] < 0.75 * figures["constant_brier"]
    again = RegionConfidence()
    fit_confidence(again, data)
    assert torch.equal(again.weight, model.weight)
    with pytest.raises(ConfigError, match="19 images are too few"):
        fit_confidence(model, made_regions(19))


def test_calibration_error():
    answers = np.array([0.05, 0.05, 0.95, 0.95])
    assert calibration_error(answers, np.array([0, 0, 1, 1])) == pytest.approx(0.05)
    assert calibration_error(answers, np.array([1, 1, 0, 0])) == pytest.approx(0.95)
    assert calibration_error(np.array([1.0]), np.array([1])) == 0.0


def test_regions_are_collected_and_go_on_where_a_run_was_killed(tmp_path):
    textures = TextureBankSettings(count=3, first=0)
    settings = InputSettings(unruly=0.5, texture_bank=textures)
    source = BankSource(folder=str(tmp_path / "bank"), settings=settings)
    model, cache = build(), tmp_path / "regions.npz"
    first = collect_regions(model, 2, source, cache, 0)
    whole = collect_regions(model, 4, source, cache, 0)
    assert sorted(set(whole.image_R)) == [0, 1, 2, 3]
    assert set(whole.reason_R) == {CHOSEN, TOLD, ASKED}
    assert np.array_equal(whole.figures_RF[: len(first.iou_R)], first.figures_RF)
    assert np.isfinite(whole.figures_RF).all()
    assert ((whole.iou_R >= 0) & (whole.iou_R <= 1)).all()
    less = collect_regions(model, 1, source, cache, 0)
    assert set(less.image_R) == {0}
    for content in (b"", b"text"):
        cache.write_bytes(content)
        with pytest.raises(ConfigError, match=r"regions\.npz: .*remove it"):
            collect_regions(model, 4, source, cache, 0)
    np.savez(cache, figures_RF=np.zeros((2, 3)), iou_R=[0, 0], image_R=[0, 0], reason_R=[0, 0])
    with pytest.raises(ConfigError, match="holds other figures"):
        collect_regions(model, 4, source, cache, 0)
    name = model_fingerprint(model, "x")
    model.selector.center.add_(1.0)
    assert model_fingerprint(model, "x") != name


# ---- in the model --------------------------------------------------------------------------


def test_a_checkpoint_without_confidence_loads_and_gives_none():
    model = build()
    older = model.checkpoint_state()
    assert not any(name.startswith("confidence.") for name in older)
    assert "confidence" not in model([sample()])[0]
    fit_confidence(model.confidence, made_regions())
    state = model.checkpoint_state()
    assert set(state) - set(older) == {
        f"confidence.{name}" for name in ("center", "scale", "weight", "bias")
    }
    (output,) = model([sample()])
    assert len(output["confidence"]) == len(output["descriptions"])
    other = build()
    other.load_checkpoint_state(state)
    assert other([sample()])[0]["confidence"] == output["confidence"]
    other.load_checkpoint_state(older)
    assert not other.confidence.is_fitted and "confidence" not in other([sample()])[0]
    del state["confidence.bias"]
    with pytest.raises(CheckpointError, match=r"missing: confidence\.bias"):
        other.load_checkpoint_state(state)


def test_the_answer_to_a_told_count_has_a_confidence_for_each_region():
    model = build()
    fit_confidence(model.confidence, made_regions())
    (output,) = model([sample(count=9)])
    assert len(output["confidence"]) == 9
    assert all(0.0 <= value <= 1.0 for value in output["confidence"])
    encoded = sample(count=9) | {"encoding": model.encode_image(sample())}
    assert model([encoded])[0]["confidence"] == output["confidence"]


WITHOUT_CONFIDENCE = "27e9ca2ae768b91aa7a924667d51aa4bc3589f40be570a6ff4aeee0f167dd604"


def test_the_confidence_came_to_the_shipped_file_and_changed_nothing_else():
    tensors, _ = read_weights(MODELS / "texture_grouping.safetensors")
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if not name.startswith("confidence."):
            digest.update(name.encode())
            digest.update(tensors[name].contiguous().numpy().tobytes())
    assert digest.hexdigest() == WITHOUT_CONFIDENCE


def test_the_model_that_ships_has_fitted_weights():
    tensors, header = read_weights(MODELS / "texture_grouping.safetensors")
    cfg = make_config(MODELS / "texture_grouping.yaml", ["MODEL.GROUPING.DESCRIBE", "False"])
    model = build_model(cfg)
    model.load_checkpoint_state(tensors)
    assert model.confidence.is_fitted
    figures = next(part for part in header["parts"] if "confidence" in part)["confidence"]
    assert figures["ece"] < 0.05 and figures["brier"] < figures["constant_brier"]
