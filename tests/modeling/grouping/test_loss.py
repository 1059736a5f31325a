"""The grouping loss and the pixels it is taken over."""

import math

import pytest
import torch

from detecture.modeling.grouping.loss import grouping_loss, sample_pixels


def two_regions():
    """Two pixels along one axis, two along another: (1,2,4) and labels (1,4)."""
    embedding = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]])
    return embedding, torch.tensor([[0, 0, 1, 1]])


def test_golden_value():
    embedding, labels = two_regions()
    sampled = torch.arange(4)[None]
    loss = grouping_loss(embedding, labels, sampled, temperature=1.0, contrast_weight=1.0)
    to_means = math.log(1 + math.exp(-1))
    between = math.log(math.e + 2) - 1.0  # one positive at cosine 1, two negatives at 0
    assert loss.item() == pytest.approx(to_means + between, abs=1e-6)


def test_mixed_regions_cost_more():
    embedding, labels = two_regions()
    sampled = torch.arange(4)[None]
    apart = grouping_loss(embedding, labels, sampled)
    mixed = grouping_loss(embedding, labels[:, [0, 2, 1, 3]], sampled)
    assert mixed > apart + 1.0


def test_one_region_only_pulls_inwards():
    embedding = torch.nn.functional.normalize(torch.randn(1, 3, 6), dim=1).requires_grad_()
    loss = grouping_loss(embedding, torch.zeros(1, 6, dtype=torch.int64), torch.arange(6)[None])
    loss.backward()
    assert torch.isfinite(embedding.grad).all()


def test_small_regions_are_drawn_as_often():
    labels = torch.zeros(2, 1000, dtype=torch.int64)
    labels[:, :20] = 1
    labels[:, 20:40] = -1
    drawn = sample_pixels(labels, 4000, torch.Generator().manual_seed(0))
    kinds = labels.gather(1, drawn)
    assert (kinds >= 0).all()
    assert (kinds == 1).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no labelled pixel"):
        sample_pixels(torch.full((1, 9), -1), 3, torch.Generator())
