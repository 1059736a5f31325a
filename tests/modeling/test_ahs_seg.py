"""AHS-Seg: CAT-Seg and its parts, each on and off, alone and all together."""

import json

import pytest
import torch
from ahs_toy import (
    ALL_PARTS,
    PARTS,
    TURNED,
    count,
    disturb,
    toy_config,
    toy_model,
    toy_sample,
    weightless,
)

from detecture.d2 import EventStorage
from detecture.data.vocabulary import Vocabulary
from detecture.engine.optimizer import build_training_optimizer
from detecture.errors import ConfigError
from detecture.modeling.cost.published_names import to_published

SIX = [f"thing {number}" for number in range(6)]
VOCABULARY = Vocabulary.of(SIX)
LOSSES = {
    "energy": "loss_energy",
    "fpn": "loss_boundary",
    "projection": "loss_contrast",
    "distillation": "loss_distill",
    "rectification": "loss_rectify",
    "prototypes": "loss_prototype",
}
ON_OUTPUT = ("energy", "fpn", "projection", "rectification")
ABLATIONS = ("baseline", "hahem_only", "mhfpn_only", "dchsp_only", "hahem_mhfpn", "full")


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    path = tmp_path_factory.mktemp("classes") / "six.json"
    path.write_text(json.dumps(SIX))
    return ["MODEL.VOCABULARY.TRAIN", str(path)]


def sample(seed=0):
    return toy_sample(seed, classes=6, vocabulary=VOCABULARY)


def answer(model):
    with torch.no_grad():
        return model.eval()([sample()])[0]["sem_seg"]


def losses_of(model, iteration=2_500):
    """In the middle of a training: the schedule of distillation is 0 at first."""
    with EventStorage(iteration):
        return model.train()([sample(0), sample(1)])


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def own_parameters(model, part):
    prefix = "adapter.modulation." if part == "energy" else f"{part}."
    return {name: p for name, p in trained(model).items() if name.startswith(prefix)}


def test_without_parts_it_is_cat_seg():
    plain, other = toy_model("CATSeg"), toy_model("AHSSeg")
    assert set(plain.state_dict()) == set(other.state_dict())
    assert torch.equal(answer(plain), answer(other))
    one, two = losses_of(plain), losses_of(other)
    assert set(one) == set(two) == {"loss_sem_seg"}
    assert torch.equal(one["loss_sem_seg"], two["loss_sem_seg"])


@pytest.mark.parametrize("part", [*PARTS, "all"])
def test_parts_change_nothing_at_first(part, classes):
    """Neither the answer nor the loss of the masks."""
    plain = toy_model("AHSSeg")
    given = ALL_PARTS if part == "all" else PARTS[part]
    other = toy_model("AHSSeg", *classes, *given)
    other.load_checkpoint_state(to_published(plain.state_dict()))
    torch.testing.assert_close(answer(other), answer(plain), atol=1e-5, rtol=1e-4)
    loss, expected = (losses_of(model)["loss_sem_seg"] for model in (other, plain))
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-4)


def test_a_new_further_cost_starts_at_zero():
    model = toy_model("AHSSeg", *PARTS["projection"])
    weight = model.head.aggregator.embed.weight
    assert weight.shape[1] == 2
    assert weight[:, 0].any() and not weight[:, 1].any()


@pytest.mark.parametrize("part", ON_OUTPUT)
def test_parts_act_on_the_answer(part, classes):
    model = toy_model("AHSSeg", *classes, *PARTS[part])
    if part == "energy":
        disturb(model.adapter.deviations.parameters(), by=0.3)
    if part == "projection":
        disturb([model.head.aggregator.embed.weight])
    before = answer(model)
    disturb(own_parameters(model, part).values(), by=0.5)
    assert float((answer(model) - before).abs().max()) > 1e-4


@pytest.mark.parametrize("part", ["distillation", "prototypes"])
def test_parts_of_the_training_leave_the_answer(part, classes):
    """Their loss alone acts; nothing of them is asked afterwards."""
    model = toy_model("AHSSeg", *classes, *PARTS[part])
    before = answer(model)
    disturb(own_parameters(model, part).values())
    assert torch.equal(answer(model), before)


@pytest.mark.parametrize("part", PARTS)
class TestLosses:
    def test_is_there_when_it_is_on(self, part, classes):
        on = toy_model("AHSSeg", *classes, *PARTS[part])
        # Away from the teacher, and from rotations.
        disturb([p for n, p in trained(on).items() if "v_proj" in n or "deviations" in n])
        found = losses_of(on)
        assert set(found) == {"loss_sem_seg", LOSSES[part]}
        assert float(found[LOSSES[part]].detach()) != 0 and torch.isfinite(found[LOSSES[part]])
        off = toy_model("AHSSeg", *classes)
        assert set(losses_of(off)) == {"loss_sem_seg"}

    def test_trains(self, part, classes):
        model = toy_model("AHSSeg", *classes, *PARTS[part])
        disturb([p for n, p in trained(model).items() if "v_proj" in n or "deviations" in n])
        if part == "projection":
            disturb(model.projection.parameters())
        losses_of(model)[LOSSES[part]].backward()
        moved = {name for name, p in trained(model).items() if p.grad is not None and p.grad.any()}
        own = set(own_parameters(model, part))
        if part in ("energy", "projection", "prototypes", "rectification"):
            assert moved & own
        if part == "fpn":  # of the masks: it trains the head
            assert any(name.startswith("head.aggregator.decoder") for name in moved)
        if part in ("distillation", "prototypes", "projection"):
            assert any(name.startswith("clip.model.vision_model") for name in moved)

    def test_weighs_as_the_config_says(self, part, classes):
        section = {
            "energy": "ADAPTIVE_ENERGY.WEIGHT",
            "fpn": "SPHERICAL_FPN.BOUNDARY_WEIGHT",
            "projection": "CLASS_PROJECTION.CONTRAST_WEIGHT",
            "distillation": "DISTILLATION.WEIGHT",
            "rectification": "RECTIFICATION.WEIGHT",
            "prototypes": "PROTOTYPES.WEIGHT",
        }[part]
        found = []
        for weight in ("1.0", "3.0"):
            model = toy_model("AHSSeg", *classes, *PARTS[part], f"MODEL.{section}", weight)
            disturb([p for n, p in trained(model).items() if "v_proj" in n])
            found.append(float(losses_of(model)[LOSSES[part]].detach()))
        assert found[1] == pytest.approx(3 * found[0], rel=1e-4)


@pytest.mark.parametrize("fusion", ["weighted", "attention", "concat"])
@pytest.mark.parametrize("energy", ["mhe", "ortho"])
class TestAllParts:
    def make(self, classes, fusion, energy):
        options = ["MODEL.SPHERICAL_FPN.FUSION", fusion, "MODEL.ADAPTIVE_ENERGY.ENERGY", energy]
        return toy_model("AHSSeg", *classes, *ALL_PARTS, *options)

    def test_every_trained_tensor_gets_a_gradient(self, classes, fusion, energy):
        """And no other: processes need not look for unused ones."""
        model = self.make(classes, fusion, energy)
        found = losses_of(model)
        assert set(found) == {"loss_sem_seg", *LOSSES.values()}
        sum(found.values()).backward()
        own = trained(model)
        assert [name for name, p in own.items() if p.grad is None] == []
        assert all(p.grad is None for n, p in model.named_parameters() if n not in own)

    def test_with_nothing_labelled_too(self, classes, fusion, energy):
        model = self.make(classes, fusion, energy)
        given = sample()
        given["sem_seg"] = torch.full_like(given["sem_seg"], 255)
        found = model([given])
        assert set(found) == {"loss_sem_seg", *LOSSES.values()}
        total = sum(found.values())
        total.backward()
        assert torch.isfinite(total)
        assert [name for name, p in trained(model).items() if p.grad is None] == []

    def test_the_optimiser_has_it_all(self, classes, fusion, energy):
        model = self.make(classes, fusion, energy)
        cfg = toy_config("AHSSeg", *classes, *ALL_PARTS)
        optimizer = build_training_optimizer(cfg, model)
        given = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(given) == sorted(id(p) for p in trained(model).values())
        without = {
            id(p) for g in optimizer.param_groups if not g["weight_decay"] for p in g["params"]
        }
        assert {id(p) for p in model.adapter.modulation.parameters()} <= without


class TestDistillation:
    def test_nothing_at_the_start_of_the_training(self, classes):
        model = toy_model("AHSSeg", *classes, *PARTS["distillation"])
        disturb([p for n, p in trained(model).items() if "v_proj" in n])
        assert float(losses_of(model, 0)["loss_distill"].detach()) == 0
        early, peak, late = (
            float(losses_of(model, at)["loss_distill"].detach()) for at in (2_500, 5_000, 80_000)
        )
        assert (peak / early, peak / late) == pytest.approx((2, 5), rel=1e-4)

    @pytest.mark.parametrize("finetune", ["attention", "orthogonal", "full"])
    def test_the_teacher_stays_as_clip_was(self, finetune):
        more = TURNED if finetune == "orthogonal" else ["MODEL.CLIP.FINETUNE", finetune]
        model = toy_model("AHSSeg", *PARTS["distillation"], *more)
        pixels = model.clip.preprocess([sample()["image"]])
        with torch.no_grad():
            before = model.teacher.tokens(pixels)
            torch.testing.assert_close(before, model.clip.encode_image(pixels).tokens_BEGG)
            disturb(trained(model).values())
            with model._turned():
                student = model.clip.encode_image(pixels).tokens_BEGG
                after = model.teacher.tokens(pixels)
        assert torch.equal(before, after) and not torch.allclose(student, before, atol=1e-3)
        assert not any(name.startswith("teacher") for name in model.checkpoint_state())

    def test_a_frozen_clip_needs_none(self):
        with pytest.raises(ConfigError, match=r"MODEL\.DISTILLATION"):
            toy_model("AHSSeg", *PARTS["distillation"], "MODEL.CLIP.FINETUNE", "frozen")


class TestPrototypes:
    def test_begin_at_the_names_and_are_kept(self, classes):
        model = toy_model("AHSSeg", *classes, *PARTS["prototypes"])
        with torch.no_grad():
            names = model.texts.features(VOCABULARY.names).mean(dim=1)
        losses_of(model)
        cosines = (model.prototypes.points_TE * names).sum(dim=1)
        assert bool(model.prototypes.is_set) and float(cosines.min()) > 0.9
        again = toy_model("AHSSeg", *classes, *PARTS["prototypes"], seed=5)
        again.load_checkpoint_state(model.checkpoint_state())
        assert torch.equal(again.prototypes.points_TE, model.prototypes.points_TE)
        assert bool(again.prototypes.is_set)

    def test_need_the_classes_of_the_training(self):
        with pytest.raises(ConfigError, match=r"MODEL\.VOCABULARY\.TRAIN"):
            toy_model("AHSSeg", *PARTS["prototypes"])

    def test_other_classes_are_refused(self, classes):
        model = toy_model("AHSSeg", *classes, *PARTS["prototypes"])
        with pytest.raises(ConfigError, match=r"3 classes .* made for 6"):
            model([toy_sample()])


def test_levels_beyond_clip_are_refused():
    with pytest.raises(ConfigError, match=r"LEVELS .* 0 to 2"):
        toy_model("AHSSeg", *PARTS["fpn"], "MODEL.SPHERICAL_FPN.LEVELS", "(0,3)")


def test_the_last_level_is_the_dense_block():
    model = toy_model("AHSSeg", *PARTS["fpn"])
    assert model.levels == (0, 1, 2)
    pixels = model.clip.preprocess([sample()["image"]])
    with torch.no_grad():
        features = model.clip.encode_image(pixels, model._all_taps())
    assert torch.equal(features.taps[2], features.last_BWGG)


@pytest.mark.parametrize("part", [*ON_OUTPUT, "all"])
def test_training_and_evaluation_see_alike(part, classes):
    """As published some parts act in training alone, or in windows alone."""
    given = ALL_PARTS if part == "all" else PARTS[part]
    same = ["TEST.SEMANTIC.POOLING", "(2,2)", "TEST.SLIDING.ENABLED", "False"]
    model = toy_model("AHSSeg", *classes, *given, *same)
    disturb(trained(model).values(), by=0.05)
    with torch.no_grad(), model._turned():
        pixels = model.clip.preprocess([sample()["image"]])
        logits = model.compare(pixels, VOCABULARY.names, model.training_pooling).logits_BTgg
    expected = torch.nn.functional.interpolate(logits.sigmoid(), (64, 64), mode="bilinear")[0]
    torch.testing.assert_close(answer(model), expected, atol=1e-5, rtol=1e-4)


def test_there_and_back(classes):
    model, again = (toy_model("AHSSeg", *classes, *ALL_PARTS, seed=seed) for seed in (0, 5))
    disturb(trained(model).values(), by=0.05)
    again.load_checkpoint_header(model.checkpoint_header())
    again.load_checkpoint_state(model.checkpoint_state())
    assert torch.equal(answer(model), answer(again))


class TestFullSize:
    def test_six_ablations_are_six_models(self):
        names = {}
        for ablation in ABLATIONS:
            model, _ = weightless(f"ablations/{ablation}")
            names[ablation] = frozenset((n, tuple(p.shape)) for n, p in trained(model).items())
        assert len(set(names.values())) == 6
        assert names["baseline"] < names["hahem_only"] < names["hahem_mhfpn"]
        assert names["mhfpn_only"] < names["hahem_mhfpn"]

    def test_of_b(self):
        model, _ = weightless("vitb_384_enhanced")
        assert model.levels == (3, 7, 11)
        assert count(model.fpn.parameters()) == 4_614_150 + 1
        assert count(model.adapter.parameters()) == 7_867_824 + 12 + 12 + 2
        assert model.head.aggregator.embed.in_channels == 2

    def test_of_the_second_set(self):
        lists = ["MODEL.VOCABULARY.TRAIN", "coco_stuff_171"]
        model, _ = weightless("vitb_384_ahs", *lists)
        assert count(model.rectification.parameters()) == 99_619
        assert count(model.prototypes.parameters()) == 171
        assert model.teacher is not None and model.fpn is None

    def test_of_l(self):
        model, _ = weightless("vitl_336_enhanced")
        assert model.levels == (7, 15, 23) and model.clip.image_size == 336
        assert count(model.fpn.parameters()) == 9_278_214 + 1024 * 768 + 3 * 768 + 1
