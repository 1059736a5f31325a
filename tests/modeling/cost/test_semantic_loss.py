"""The loss of open-vocabulary segmentation, in figures."""

import math

import pytest
import torch
from ahs_toy import toy_model, toy_sample
from torch.nn import functional

from detecture.errors import ConfigError
from detecture.modeling.cost.loss import loss_count, semantic_loss_sum


def mean(logits, labels, ignore="negative"):
    total = semantic_loss_sum(logits, labels, 255, ignore)
    return float(total) / (loss_count(labels, 255, ignore) * logits.shape[1])


@pytest.mark.parametrize("ignore", ["negative", "mask"])
def test_no_idea_costs_ln_2(ignore):
    labels = torch.randint(0, 3, (2, 8, 8))
    labels[:, :2] = 255
    assert mean(torch.zeros(2, 3, 4, 4), labels, ignore) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize(("ignore", "expected"), [("negative", 0.98651934), ("mask", 0.86985272)])
def test_constant_logits(ignore, expected):
    """softplus(x) - x n_valid / (n T): three classes, x = 0.7, one of two pixels valid."""
    labels = torch.tensor([[[1, 255]]])
    assert mean(torch.full((1, 3, 1, 2), 0.7), labels, ignore) == pytest.approx(expected, abs=1e-7)


def explicit(logits, labels, ignore):
    """Binary cross-entropy with a map of ones and zeros for each class."""
    logits = functional.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
    target = torch.zeros_like(logits)
    for number in range(logits.shape[1]):
        target[:, number] = (labels == number).float()
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if ignore == "mask":
        loss = loss.movedim(1, -1)[labels != 255]
    return loss.mean()


@pytest.mark.parametrize("ignore", ["negative", "mask"])
def test_is_that_of_maps_of_ones_and_zeros(ignore):
    logits = torch.randn(2, 5, 8, 8, dtype=torch.float32, requires_grad=True)
    labels = torch.randint(0, 5, (2, 20, 24))
    labels[1, :, 3:9] = 255
    total = semantic_loss_sum(logits, labels, 255, ignore)
    found = total / (loss_count(labels, 255, ignore) * 5)
    expected = explicit(logits, labels, ignore)
    torch.testing.assert_close(found, expected)
    (one,) = torch.autograd.grad(found, logits)
    (other,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-4)


def test_counts():
    labels = torch.full((2, 3, 4), 255)
    labels[0, 0] = 1
    assert (loss_count(labels, 255, "mask"), loss_count(labels, 255, "negative")) == (4, 24)


@pytest.mark.parametrize("ignore", ["negative", "mask"])
def test_nothing_is_labelled(ignore):
    model = toy_model("CATSeg", "LOSS.SEMANTIC.IGNORE", ignore)
    sample = toy_sample()
    sample["sem_seg"] = torch.full_like(sample["sem_seg"], 255)
    loss = model([sample])["loss_sem_seg"]
    loss.backward()
    assert torch.isfinite(loss) and (float(loss.detach()) == 0) == (ignore == "mask")


@pytest.mark.parametrize("ignore", ["negative", "mask"])
def test_of_the_model(ignore):
    model = toy_model("CATSeg", "LOSS.SEMANTIC.IGNORE", ignore)
    samples = [toy_sample(seed) for seed in range(2)]
    with torch.no_grad():
        found = model(samples)["loss_sem_seg"]
        pixels = model.clip.preprocess([sample["image"] for sample in samples])
        names = samples[0]["vocabulary"].names
        logits = model.compare(pixels, names, (2, 2)).logits_BTgg
        labels = torch.stack([sample["sem_seg"] for sample in samples])
        torch.testing.assert_close(found, explicit(logits, labels, ignore))


def test_a_batch_in_parts_has_the_same_loss():
    """With the normalisers of the whole: unlabelled pixels do not weigh by chance."""
    model = toy_model("CATSeg", "LOSS.SEMANTIC.IGNORE", "mask")
    samples = [toy_sample(seed) for seed in range(2)]
    samples[1]["sem_seg"][:, 20:] = 255
    with torch.no_grad():
        whole = model(samples)["loss_sem_seg"]
        normalizers = model.loss_normalizers(samples)
        parts = sum(model([one], normalizers)["loss_sem_seg"] for one in samples)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("label", [3, -1, 254])
def test_labels_beyond_the_classes_are_named(label):
    model, sample = toy_model(), toy_sample()
    sample["sem_seg"][5, 30] = label
    with pytest.raises(ConfigError, match=rf"label {label}\b.* 3 names"):
        model([sample])
