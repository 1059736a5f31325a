"""Grouped pixel embeddings: their loss, masks refined on them, queries that point at them."""

import pytest
import torch
from micro import evaluation_batch, micro_model, training_batch

from detecture.config import make_config
from detecture.config.sections.detecture import RefinementSettings
from detecture.config.sections.losses import GroupingLossSettings
from detecture.errors import ConfigError
from detecture.modeling.bridge.grouping_term import GroupingTerm
from detecture.modeling.bridge.refinement import Refinement

ALL = (
    *("MODEL.BRIDGE.DECODING", "pointing", "LOSS.GROUPING_WEIGHT", "1.0"),
    *("MODEL.REFINEMENT.STEPS", "3", "MODEL.REFINEMENT.DIMENSIONS", "4"),
)


def refinement_of(**settings):
    return Refinement(RefinementSettings(**settings))


def strips(size=16, noise=0.2):
    """Two strips, told apart by embeddings (1,E,h,w) but badly by logits (3,h,w); their border."""
    generator = torch.Generator().manual_seed(0)
    left = (torch.arange(size) < size // 2).expand(size, size)
    embedding = torch.stack([torch.where(left, 1.0, 0.3), torch.where(left, 0.2, 1.0)])[None]
    embedding = embedding + noise * torch.randn(embedding.shape, generator=generator)
    logits = torch.full((3, size, size), -5.0)
    logits[1], logits[2] = 0.4 * left, 0.4 * ~left
    logits[1:] += torch.randn(logits[1:].shape, generator=generator)
    return logits, embedding, left


def test_refined_masks_follow_the_embeddings():
    logits, embedding, left = strips()
    truth = torch.where(left, 1, 2)
    before = (logits.argmax(dim=0) == truth).float().mean()
    refined = refinement_of(steps=5, dimensions=2, weight=1.0)(logits, torch.tensor([2]), embedding)
    assert before < 0.75
    assert (refined.argmax(dim=0) == truth).float().mean() > 0.95
    half = refinement_of(steps=5, dimensions=2, weight=0.0)(logits, torch.tensor([2]), embedding)
    assert torch.allclose(half, logits, atol=1e-5)


def test_the_dustbin_keeps_its_pixels_and_gains_none():
    logits, embedding, _ = strips()
    logits[0, :4] = 3.0
    logits[0, 4:8] = 0.5
    dustbin = logits.argmax(dim=0) == 0
    assert 0.25 < dustbin.float().mean() < 0.6
    refined = refinement_of(steps=5, dimensions=2, weight=0.7)(logits, torch.tensor([2]), embedding)
    assert torch.equal(refined.argmax(dim=0) == 0, dustbin)
    assert torch.equal(refined[:, dustbin], logits[:, dustbin])
    assert torch.equal(refined[0], logits[0])
    assert not torch.allclose(refined[1:, ~dustbin], logits[1:, ~dustbin])


def test_nothing_to_refine_changes_nothing():
    logits, embedding, _ = strips()
    refinement = refinement_of(steps=5, dimensions=2, weight=1.0)
    for count in (0, 1):
        few = logits[: count + 1]
        assert torch.equal(refinement(few, torch.tensor([count]), embedding), few)
    logits[0] = 9.0  # all is dustbin
    assert torch.equal(refinement(logits, torch.tensor([2]), embedding), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hard_cases_stay_finite(dtype):
    """A slot without any pixel, all embeddings equal, more components than channels."""
    logits, embedding, _ = strips()
    empty = torch.cat([logits, torch.full((1, 16, 16), -80.0)]).to(dtype)
    refinement = refinement_of(steps=5, dimensions=9, weight=1.0)
    refined = refinement(empty, torch.tensor([3]), embedding.to(dtype))
    assert refined.dtype == torch.float32
    assert torch.isfinite(refined).all()
    assert not (refined.argmax(dim=0) == 3).any()
    flat = refinement(empty, torch.tensor([3]), torch.ones(1, 2, 16, 16, dtype=dtype))
    assert torch.isfinite(flat).all()


def test_images_of_a_batch_do_not_touch():
    logits, embedding, _ = strips()
    other_logits, other_embedding = logits.flip(2)[:2], embedding.flip(3) * 2
    refinement = refinement_of(steps=5, dimensions=2, weight=0.5)
    together = refinement(
        torch.cat([logits, other_logits, logits]),
        torch.tensor([2, 1, 2]),
        torch.cat([embedding, other_embedding, embedding]),
    )
    alone = refinement(logits, torch.tensor([2]), embedding)
    assert torch.equal(together, torch.cat([alone, other_logits, alone]))


def test_the_grouping_term_wants_regions_apart():
    _, embedding, left = strips(noise=0.01)
    labels = torch.where(left, 1, 2)[None]
    term = GroupingTerm(2.0, GroupingLossSettings(pixels=40))
    right = term.sum(embedding, labels, ["a"])
    wrong = term.sum(embedding, labels.transpose(1, 2), ["a"])
    assert right < 0.6 * wrong
    assert torch.allclose(
        GroupingTerm(1.0, GroupingLossSettings(pixels=40)).sum(embedding, labels, ["a"]) * 2, right
    )
    # The dustbin is no group, and an image of nothing else counts nothing.
    nothing = torch.zeros_like(labels)
    assert term.sum(embedding, nothing, ["a"]) == 0
    both = term.sum(embedding.expand(2, -1, -1, -1), torch.cat([labels, nothing]), ["a", "b"])
    assert torch.allclose(both, right)


def test_off_is_bit_for_bit_what_it_was(tmp_path):
    """The same parameters, the same draws, the same losses; no trace of an embedding."""
    plain = micro_model(tmp_path).train()
    on = micro_model(tmp_path, "LOSS.GROUPING_WEIGHT", "1.0").train()
    assert plain.checkpoint_state().keys() == on.checkpoint_state().keys()
    losses = []
    for model in (plain, on):
        torch.manual_seed(3)
        losses.append(model(training_batch()))
    grouping = losses[1].pop("loss_grouping")
    assert torch.isfinite(grouping)
    assert {k: float(v) for k, v in losses[0].items()} == {
        k: float(v) for k, v in losses[1].items()
    }
    features = plain.eval().encode_image(evaluation_batch()[0]).features
    states = torch.randn(1, 6, plain.vlm.hidden_size)
    slots = plain.head(plain.segmenter, features, states, torch.tensor([2]))
    assert slots.embedding_BEhw is None


def test_micro_batches_equal_one_batch_with_everything_on(tmp_path):
    extra = ("MODEL.DTYPE", "float64", "MODEL.BRIDGE.DROPOUT", "0.0")
    model = micro_model(tmp_path, *ALL, *extra, "MODEL.REFINEMENT.IN_TRAINING", "True").train()
    batch = training_batch((2, 5, 1))
    whole = model(batch)
    sum(whole.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    parts = [batch[:1], batch[1:]]
    normalizers = [model.loss_normalizers(part) for part in parts]
    total = {key: sum(n[key] for n in normalizers) for key in normalizers[0]}
    losses = [model(part, normalizers=total) for part in parts]
    for key, loss in whole.items():
        assert abs(float(loss) - float(sum(part[key] for part in losses))) < 1e-9, key


@pytest.mark.parametrize("decoding", ["multiplexed", "multi_slot", "pointing"])
def test_batch_equals_single_with_everything_on(tmp_path, decoding):
    model = micro_model(tmp_path, *ALL, "MODEL.BRIDGE.DECODING", decoding).eval()
    texts = [["Texture of moss", "Texture of sand on the left"], ["Texture of wool"]]
    batch = [dict(s, descriptions=d) for s, d in zip(evaluation_batch(), texts, strict=True)]
    together = model(batch)
    for sample, due in zip(batch, together, strict=True):
        assert torch.allclose(model([sample])[0]["sem_seg"], due["sem_seg"], atol=1e-4)
    model.refinement = refinement_of(steps=0)
    assert not torch.allclose(model(batch)[0]["sem_seg"], together[0]["sem_seg"], atol=1e-3)


def test_pointing_runs_the_segmenter_once_for_a_image(tmp_path):
    model = micro_model(tmp_path, *ALL).train()
    asked = []
    pixel_embeddings = model.segmenter.pixel_embeddings

    def count(features, image_index_N, prompt_NTD, mask=None):
        asked.append(tuple(prompt_NTD.shape[:2]))
        return pixel_embeddings(features, image_index_N, prompt_NTD, mask)

    model.segmenter.pixel_embeddings = count
    model(training_batch((2, 5, 1)))
    assert asked == [(3, 1)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.REFINEMENT.STEPS", "-1"),
        ("MODEL.REFINEMENT.DIMENSIONS", "0"),
        ("MODEL.REFINEMENT.WEIGHT", "1.5"),
        ("LOSS.GROUPING_WEIGHT", "-1.0"),
        ("LOSS.GROUPING.TEMPERATURE", "0.0"),
    ],
)
def test_wrong_values_are_refused(key, value):
    with pytest.raises(ConfigError, match=key):
        make_config(None, [key, value])
