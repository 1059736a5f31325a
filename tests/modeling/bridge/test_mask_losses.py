"""The mask losses against values written out by hand and against plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from detecture.modeling.bridge.mask_losses import mask_loss_sums, partition_scores


def scene(ks, low, size, dtype=torch.float64, seed=0):
    """Slots in a shuffled order and ground truth for images with K textures each."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [(b, q) for b, k in enumerate(ks) for q in range(k + 1)]
    order = torch.randperm(len(pairs), generator=generator)
    image, slot = torch.tensor(pairs)[order].unbind(1)
    logits = 3 * torch.randn(len(pairs), *low, generator=generator, dtype=torch.float64)
    truth = torch.stack([torch.randint(0, k + 1, size, generator=generator) for k in ks])
    return logits.to(dtype).requires_grad_(), image, slot, truth


def loop_losses(logits, image, slot, truth):
    """Cross-entropy and Dice, image by image and slot by slot."""
    ce_sum, dice_sum = 0.0, 0.0
    for b, labels in enumerate(truth):
        rows = [int(((image == b) & (slot == q)).nonzero()) for q in range(int((image == b).sum()))]
        resized = F.interpolate(
            logits[rows][None], labels.shape, mode="bilinear", align_corners=False
        )[0]
        probs = resized.exp() / resized.exp().sum(dim=0)
        picked = torch.stack([probs[q][labels == q].log().sum() for q in range(len(rows))])
        ce_sum = ce_sum - picked.sum() / labels.numel()
        for q in range(len(rows)):
            own = (labels == q).to(probs.dtype)
            overlap = 2 * (probs[q] * own).sum() + 1
            dice_sum = dice_sum + 1 - overlap / (probs[q].sum() + own.sum() + 1)
    return ce_sum, dice_sum


@pytest.mark.parametrize(
    ("ks", "low", "size"),
    [
        ((2,), (4, 4), (4, 4)),
        ((1, 6, 3), (8, 8), (13, 21)),
        ((0, 2), (5, 7), (3, 4)),
        ((6, 1), (6, 6), (32, 17)),
    ],
)
def test_mask_losses_equal_a_loop(ks, low, size):
    logits, image, slot, truth = scene(ks, low, size)
    sums = mask_loss_sums(logits, image, slot, truth)
    ce_sum, dice_sum = loop_losses(logits, image, slot, truth)
    assert (sums.ce_count, sums.dice_count) == (len(ks), sum(ks) + len(ks))
    assert sums.ce_sum.item() == pytest.approx(ce_sum.item(), abs=1e-10)
    assert sums.dice_sum.item() == pytest.approx(dice_sum.item(), abs=1e-10)
    (got,) = torch.autograd.grad(sums.ce_sum + 3 * sums.dice_sum, logits)
    (expected,) = torch.autograd.grad(ce_sum + 3 * dice_sum, logits)
    assert bool(torch.isfinite(got).all())
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-9)


def test_mask_losses_written_out():
    """One pixel, two slots with logits 0 and ln 3: probabilities 1/4 and 3/4; the pixel is 1."""
    logits = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64).reshape(2, 1, 1)
    index = torch.tensor([0, 1])
    sums = mask_loss_sums(logits, torch.zeros(2).long(), index, torch.ones(1, 1, 1).long())
    assert float(sums.ce_sum) == pytest.approx(math.log(4 / 3))
    # 1 - (0+1)/(1/4+0+1) and 1 - (2*3/4+1)/(3/4+1+1)
    assert float(sums.dice_sum) == pytest.approx(1 - 4 / 5 + 1 - 2.5 / 2.75)


def test_micro_batches_add_up_to_the_batch():
    logits, image, slot, truth = scene((3, 1), (6, 6), (10, 10))
    whole = mask_loss_sums(logits, image, slot, truth)
    parts = [
        mask_loss_sums(
            logits[image == b], image[image == b] - b, slot[image == b], truth[b : b + 1]
        )
        for b in (0, 1)
    ]
    for name in ("ce_sum", "ce_count", "dice_sum", "dice_count"):
        assert float(getattr(whole, name)) == pytest.approx(
            float(sum(getattr(part, name) for part in parts)), abs=1e-12
        )


def test_mask_losses_in_half_precision_are_taken_in_single():
    logits, image, slot, truth = scene((2, 4), (9, 9), (33, 20), torch.bfloat16)
    expected = mask_loss_sums(logits.detach().double(), image, slot, truth)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = mask_loss_sums(logits, image, slot, truth)
        assert torch.is_autocast_enabled("cpu")
    assert sums.ce_sum.dtype == sums.dice_sum.dtype == torch.float32
    assert float(sums.ce_sum) == pytest.approx(float(expected.ce_sum), rel=1e-5)
    assert float(sums.dice_sum) == pytest.approx(float(expected.dice_sum), rel=1e-5)
    (sums.ce_sum + sums.dice_sum).backward()
    assert logits.grad.dtype == torch.bfloat16
    assert bool(torch.isfinite(logits.grad).all())


def test_large_logits_stay_finite():
    logits, image, slot, truth = scene((1, 5), (4, 4), (50, 60), torch.float32)
    with torch.no_grad():
        logits.mul_(1e4)
    sums = mask_loss_sums(logits, image, slot, truth)
    (sums.ce_sum + sums.dice_sum).backward()
    assert math.isfinite(float(sums.ce_sum + sums.dice_sum))
    assert bool(torch.isfinite(logits.grad).all())


def test_labels_without_a_slot_are_an_error():
    logits, image, slot, truth = scene((2, 1), (4, 4), (4, 4))
    truth[1, 0, 0] = 2
    with pytest.raises(ValueError, match=r"image 1 .* 2 slots .* 1 textures.* labels 0\.\.2"):
        mask_loss_sums(logits, image, slot, truth)
    truth[1, 0, 0] = -1
    with pytest.raises(ValueError, match=r"labels -1\.\.1"):
        mask_loss_sums(logits, image, slot, truth)


@pytest.mark.parametrize(
    ("image", "slot", "match"),
    [
        ([0, 0, 1], [0, 0, 0], "each once"),
        ([0, 0, 1], [0, 2, 0], "each once"),
        ([0, 0, 1], [0, 1, 1], "each once"),
        ([0, 0, 1], [0, -1, 0], "each once"),
        ([0, 0, 0], [0, 1, 2], "2 slots|image 1 .* 0 slots"),
        ([0, 0, 2], [0, 1, 0], "2 images"),
        ([0, 0, -1], [0, 1, 0], "2 images"),
        ([0, 0], [0, 1], "must be"),
    ],
)
def test_indices_that_do_not_fit_are_an_error(image, slot, match):
    truth = torch.zeros(2, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=match):
        mask_loss_sums(torch.zeros(3, 2, 2), torch.tensor(image), torch.tensor(slot), truth)


def test_no_slot_and_no_pixel_are_an_error():
    none = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="0 slots"):
        mask_loss_sums(torch.zeros(0, 2, 2), none, none, torch.zeros(1, 2, 2).long())
    with pytest.raises(ValueError, match="none to learn"):
        one = torch.zeros(1, dtype=torch.int64)
        mask_loss_sums(torch.zeros(1, 2, 2), one, one, torch.zeros(1, 0, 2).long())


def bilinear_reference(plane, height, width):
    """Bilinear with half-pixel centres, row weights times column weights."""

    def matrix(length, to):
        rows = torch.zeros(to, length, dtype=plane.dtype)
        for i in range(to):
            at = max((i + 0.5) * length / to - 0.5, 0.0)
            low = min(int(at), length - 1)
            high = min(low + 1, length - 1)
            rows[i, low] += 1 - (at - low)
            rows[i, high] += at - low
        return rows

    return matrix(plane.shape[0], height) @ plane @ matrix(plane.shape[1], width).T


@pytest.mark.parametrize("size", [(500, 500), (512, 683), (1008, 1008)])
def test_partition_at_the_sizes_of_the_published_defect(size):
    generator = torch.Generator().manual_seed(1)
    slots = torch.randn(3, 288, 288, generator=generator, dtype=torch.float64)
    scores = partition_scores(slots, size)
    assert scores.shape == (3, *size)
    assert bool(torch.isfinite(scores).all())
    for channel, slot in enumerate((1, 2, 0)):  # textures first, the dustbin last
        torch.testing.assert_close(scores[channel], bilinear_reference(slots[slot], *size))


def test_partition_in_half_precision_and_without_texture():
    slots = torch.randn(1, 8, 8).bfloat16()
    scores = partition_scores(slots, (20, 11))
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores[0], bilinear_reference(slots[0].float(), 20, 11))
    with pytest.raises(ValueError, match="dustbin first"):
        partition_scores(torch.zeros(0, 4, 4), (4, 4))
    with pytest.raises(ValueError, match="dustbin first"):
        partition_scores(torch.zeros(4, 4), (4, 4))
