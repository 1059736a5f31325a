"""Net, guided filter, features, evidence and selector."""

import numpy as np
import pytest
import torch

from detecture.config.sections.grouping import GroupingSettings
from detecture.modeling.grouping.classical import ClassicalFeatures
from detecture.modeling.grouping.count_selector import CountSelector, selection_loss
from detecture.modeling.grouping.evidence import EVIDENCE, EVIDENCE_NAMES, evidence
from detecture.modeling.grouping.finder import RegionFinder
from detecture.modeling.grouping.guided_filter import guided_filter
from detecture.modeling.grouping.net import GroupingNet


@pytest.fixture(scope="module")
def finder():
    torch.manual_seed(0)
    net = GroupingNet((8, 8, 16, 16), channels=8, attention_blocks=1).eval()
    return RegionFinder(
        [net],
        ClassicalFeatures(64),
        GroupingSettings(classical_weights=(0.5, 1.0), components=(6,), starts=12),
    )


def halves(height=48, width=64):
    """Dark stripes on the left, plain light on the right."""
    image = np.full((height, width, 3), 200, np.uint8)
    image[:, : width // 2] = 40
    image[::4, : width // 2] = 90
    return image


@pytest.mark.parametrize("size", [(64, 64), (17, 33), (16, 90)])
def test_net_embeds_every_cell(size):
    net = GroupingNet((8, 8, 16, 16), channels=8)
    embedding = net(torch.rand(2, 3, *size))
    assert embedding.shape == (2, 8, -(-size[0] // 4), -(-size[1] // 4))
    length = embedding.norm(dim=1)
    assert torch.allclose(length, torch.ones_like(length), atol=1e-5)


def test_net_batch_equals_single():
    net = GroupingNet((8, 8, 16, 16), channels=8).eval()
    images = torch.rand(3, 3, 32, 48)
    single = torch.cat([net(one[None]) for one in images])
    assert torch.allclose(net(images), single, atol=1e-5)


def test_halves_are_found(finder):
    features = finder.encode(halves())
    division = finder.divide(finder.points(features), 2)
    labels = finder.scores(features, division).argmax(dim=0)
    assert labels.shape == (48, 64)
    left, right = labels[:, :24].float().mean(), labels[:, 40:].float().mean()
    assert abs(left - right) > 0.9


def test_several_nets_share_the_scales():
    torch.manual_seed(1)
    one, other = (GroupingNet((8, 8, 16, 16), channels=8, attention_blocks=1) for _ in range(2))
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)

    def embed(nets, scales):
        return (
            RegionFinder(nets, ClassicalFeatures(64), GroupingSettings(scales=scales))
            .encode(image)
            .embedding_NC
        )

    both = embed([one, other], (1.0, 1.25))
    apart = np.concatenate([embed([one], (1.0,)), embed([other], (1.25,))], axis=1)
    assert both == pytest.approx(apart / np.sqrt(2.0), abs=1e-6)
    assert np.linalg.norm(both, axis=1) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_odd_images(finder, size):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    features = finder.encode(image)
    for count in (1, 3):
        division = finder.divide(finder.points(features), count)
        scores = finder.scores(features, division)
        assert scores.shape[0] == count
        assert torch.isfinite(scores).all()


def test_a_flat_image_is_one_region(finder):
    features = finder.encode(np.full((40, 40, 3), 128, np.uint8))
    division = finder.divide(finder.points(features), 3)
    assert torch.isfinite(finder.scores(features, division)).all()


def test_guided_filter_keeps_an_edge_and_smooths_the_rest():
    guide = torch.zeros(1, 20, 20)
    guide[:, :, 10:] = 1.0
    noisy = guide + 0.3 * torch.randn(1, 20, 20, generator=torch.Generator().manual_seed(0))
    filtered = guided_filter(guide, noisy, 3, 1e-4)
    assert (filtered - guide).abs().mean() < 0.5 * (noisy - guide).abs().mean()
    assert (filtered[:, :, 11] - filtered[:, :, 8]).mean() > 0.7


def test_evidence_tells_two_textures_from_one(finder):
    def figures(image):
        features = finder.encode(image)
        points = finder.points(features)
        return evidence(features, [finder.divide(points, count) for count in (1, 2, 3)])

    two, one = figures(halves()), figures(halves()[:, :28])
    assert two.shape == (3, EVIDENCE)
    assert np.isfinite(two).all()
    assert np.isfinite(one).all()
    assert not np.allclose(two, one)


def test_evidence_has_names():
    assert len(set(EVIDENCE_NAMES)) == EVIDENCE == 104  # as the selector that ships has weights
    assert EVIDENCE_NAMES[0] == "agreement"
    assert EVIDENCE_NAMES[12] == "near.least"
    assert EVIDENCE_NAMES[31] == "discriminant_classical.log_determinant"
    assert EVIDENCE_NAMES[32] == "agreement less one fewer"
    assert EVIDENCE_NAMES[-8:] == (*(f"leading.{i}" for i in range(6)), "variance", "roughness")


def test_selector_learns_what_is_best():
    torch.manual_seed(0)
    figures = torch.randn(64, 3, EVIDENCE)
    quality = torch.softmax(4.0 * figures[..., 0], dim=1)
    selector = CountSelector(most=3, width=16)
    selector.standardise(figures)
    optimizer = torch.optim.Adam(selector.members.parameters(), 0.01)
    for _ in range(200):
        optimizer.zero_grad()
        selection_loss(selector.by_member(figures), quality).backward()
        optimizer.step()
    selector.eval()
    assert torch.allclose(selector(figures).exp().sum(dim=1), torch.ones(64))
    right = selector(figures).argmax(dim=1) == quality.argmax(dim=1)
    assert right.float().mean() > 0.9
