"""CAT-Seg: what trains and how, any classes, training and evaluation of the whole model."""

import pytest
import torch
from ahs_toy import CLASSES, TURNED, count, disturb, toy_config, toy_model, toy_sample, weightless

from detecture.data.vocabulary import Vocabulary
from detecture.engine.optimizer import build_training_optimizer
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.heads.cost_aggregation import CostAggregationHead

FINETUNE = {
    "attention": [],
    "orthogonal": TURNED,
    "full": ["MODEL.CLIP.FINETUNE", "full"],
    "frozen": ["MODEL.CLIP.FINETUNE", "frozen"],
}
LAST_QUERIES = "clip.model.vision_model.encoder.layers.2.self_attn.q_proj.weight"


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def vocabulary(classes):
    return Vocabulary.of([f"thing {number}" for number in range(classes)])


class TestFullSize:
    @pytest.mark.parametrize(
        ("name", "total", "tensors", "head", "of_clip"),
        [
            ("cat_seg_vitb", 25_115_873, 180, 4_668_641, (48, 20_447_232)),
            ("cat_seg_vitl", 70_270_177, 204, 5_782_753, (72, 64_487_424)),
        ],
    )
    def test_what_trains_and_how_fast(self, name, total, tensors, head, of_clip):
        model, cfg = weightless(name)
        found = trained(model)
        assert (count(found.values()), len(found)) == (total, tensors)
        assert count(model.head.parameters()) == head
        optimizer = build_training_optimizer(cfg, model)
        groups = [
            (p, group["lr"], group["weight_decay"])
            for group in optimizer.param_groups
            for p in group["params"]
        ]
        assert {id(p) for p, _, _ in groups} == {id(p) for p in found.values()}
        assert len(groups) == tensors
        slow = [p for p, rate, _ in groups if rate == pytest.approx(2e-6)]
        assert (len(slow), count(slow)) == of_clip
        assert sum(rate == 2e-4 for _, rate, _ in groups) == tensors - len(slow)
        norms = [p for p, _, decay in groups if decay == 0]
        assert (len(norms), count(norms)) == (36, 3_968)
        assert sum(decay == 1e-4 for _, _, decay in groups) == tensors - 36
        assert isinstance(optimizer, torch.optim.AdamW)
        assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}

    def test_the_published_schedule(self):
        _, cfg = weightless("cat_seg_vitb")
        solver = cfg.SOLVER
        assert (solver.LR_SCHEDULER_NAME, solver.WARMUP_ITERS) == ("WarmupCosineLR", 0)
        assert (solver.MAX_ITER, solver.IMS_PER_BATCH) == (80_000, 4)
        clipping = solver.CLIP_GRADIENTS
        assert (clipping.CLIP_TYPE, clipping.CLIP_VALUE) == ("full_model", 0.01)
        assert cfg.LOSS.SEMANTIC.IGNORE == "negative"
        assert cfg.MODEL.COST_AGGREGATION.POOLING == (2, 2)
        assert cfg.TEST.SEMANTIC.POOLING == (1, 1)

    @pytest.mark.parametrize("name", ["cat_seg_vitb", "cat_seg_vitl"])
    def test_shapes(self, name):
        model, _ = weightless(name)
        names = vocabulary(171).names
        side, embed = model.clip.image_size, model.clip.embed_width
        pixels = torch.empty(2, 3, side, side, device="meta")
        compared = model.compare(pixels, names, (2, 2))
        assert compared.text_TPE.shape == (171, 1, embed)
        assert compared.logits_BTgg.shape == (2, 171, 96, 96)

    def test_all_of_clip_that_has_a_part_in_the_answer(self):
        model, _ = weightless("cat_seg_vitb", "MODEL.CLIP.FINETUNE", "full")
        of_clip = [p for name, p in trained(model).items() if name.startswith("clip.")]
        # Not the scale of the logits, nor what the dense last block asks by and looks for.
        assert count(of_clip) == 149_620_737 - 1 - 2 * (768 * 768 + 768)

    def test_of_h_clip(self):
        model, cfg = weightless("h_clip_vitb")
        found = trained(model)
        assert count(found.values()) == 4_668_641 + 7_867_824
        rates = {
            group["name"]: group["lr"]
            for group in build_training_optimizer(cfg, model).param_groups
        }
        assert rates["adapter"] == pytest.approx(2e-4) and "clip" not in rates


@pytest.mark.parametrize("finetune", FINETUNE)
@pytest.mark.parametrize("classes", [3, 16, 20])
class TestGradients:
    """16 classes are all that this tiny one aggregates at a time."""

    def test_of_what_trains_and_of_nothing_else(self, finetune, classes):
        model = toy_model("CATSeg", *FINETUNE[finetune])
        disturb(p for name, p in model.named_parameters() if "padding" in name)
        sample = toy_sample(classes=classes, vocabulary=vocabulary(classes))
        sum(model([sample]).values()).backward()
        found = trained(model)
        assert [name for name, p in found.items() if p.grad is None] == []
        assert all(p.grad is None for n, p in model.named_parameters() if n not in found)
        assert any(n.startswith("clip.") for n in found) == (finetune in ("attention", "full"))
        assert any(n.startswith("adapter.") for n in found) == (finetune == "orthogonal")
        zero = {name for name, p in found.items() if not p.grad.any()}
        if finetune == "attention":
            padding = {n for n in found if "padding" in n} if classes >= 16 else set()
            assert zero == {LAST_QUERIES} | padding

    def test_the_optimiser_has_it_all(self, finetune, classes):
        del classes
        model = toy_model("CATSeg", *FINETUNE[finetune])
        optimizer = build_training_optimizer(toy_config("CATSeg", *FINETUNE[finetune]), model)
        given = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(given) == sorted(id(p) for p in trained(model).values())


def test_a_step_lowers_the_loss():
    model = toy_model()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    samples, losses = [toy_sample(seed) for seed in range(2)], []
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(samples)["loss_sem_seg"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.05
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in frozen.items())


class TestBatches:
    def test_in_evaluation(self):
        model = toy_model().eval()
        samples = [toy_sample(0), toy_sample(1, (48, 80)), toy_sample(2, (33, 20))]
        samples[1]["vocabulary"] = Vocabulary.of(["one", "two"])
        with torch.no_grad():
            found = model(samples)
            for sample, output in zip(samples, found, strict=True):
                (alone,) = model([sample])
                assert torch.equal(output["sem_seg"], alone["sem_seg"])
                assert output["sem_seg"].shape[1:] == sample["image"].shape[1:]
        assert [len(output["sem_seg"]) for output in found] == [3, 2, 3]

    @pytest.mark.parametrize("classes", [3, 20])
    def test_in_training(self, classes):
        """The loss of a batch is the mean of those of its images; each has its best classes."""
        model = toy_model("CATSeg", "LOSS.SEMANTIC.IGNORE", "negative")
        samples = [
            toy_sample(seed, classes=classes, vocabulary=vocabulary(classes)) for seed in range(3)
        ]
        with torch.no_grad():
            both = model(samples)["loss_sem_seg"]
            each = [model([sample])["loss_sem_seg"] for sample in samples]
        torch.testing.assert_close(both, torch.stack(each).mean())

    def test_the_size_that_is_asked_for(self):
        model, sample = toy_model().eval(), toy_sample(0, (48, 80))
        with torch.no_grad():
            (output,) = model([{**sample, "height": 100, "width": 31}])
        assert output["label_map"].shape == (100, 31)
        assert output["sem_seg"].shape == (3, 100, 31)


class TestAnyClasses:
    @pytest.mark.parametrize("classes", [1, 4, 847])
    def test_any_number(self, classes):
        model = toy_model().eval()
        with torch.no_grad():
            (output,) = model([toy_sample(vocabulary=vocabulary(classes))])
        assert output["sem_seg"].shape == (classes, 64, 64)
        assert output["sem_seg"].isfinite().all()
        assert len(output["classes"]) == classes
        considered = (output["sem_seg"].amax(dim=(1, 2)) > 0).sum()
        # Each of the five views has up to 16 of its own.
        assert considered == classes if classes < 16 else 16 <= considered <= 5 * 16

    def test_their_order_does_not_matter(self):
        model = toy_model().eval()
        turned = Vocabulary.of(list(reversed(CLASSES.classes)))
        with torch.no_grad():
            (one,) = model([toy_sample()])
            (other,) = model([toy_sample(vocabulary=turned)])
        torch.testing.assert_close(one["sem_seg"], other["sem_seg"].flip(0), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("synonyms", ["all", "first"])
    def test_synonyms(self, synonyms):
        model = toy_model("CATSeg", "TEST.SEMANTIC.SYNONYMS", synonyms).eval()
        with torch.no_grad():
            (found,) = model([toy_sample(vocabulary=Vocabulary.of(["sky|clouds", "sand"]))])
            (all_names,) = model([toy_sample(vocabulary=Vocabulary.of(["sky", "clouds", "sand"]))])
            (firsts,) = model([toy_sample(vocabulary=Vocabulary.of(["sky", "sand"]))])
        if synonyms == "first":
            assert torch.equal(found["sem_seg"], firsts["sem_seg"])
        else:
            best = all_names["sem_seg"][:2].amax(dim=0)
            torch.testing.assert_close(found["sem_seg"][0], best)
            torch.testing.assert_close(found["sem_seg"][1], all_names["sem_seg"][2])

    def test_training_takes_the_first_names(self):
        model = toy_model()
        with torch.no_grad():
            many = model([toy_sample(vocabulary=Vocabulary.of(["sky|clouds", "sand", "reed"]))])
            first = model([toy_sample(vocabulary=Vocabulary.of(["sky", "sand", "reed"]))])
        assert torch.equal(many["loss_sem_seg"], first["loss_sem_seg"])

    @pytest.mark.parametrize("mode", ["train", "eval"])
    def test_no_classes(self, mode):
        model = getattr(toy_model(), mode)()
        part = mode.upper().replace("EVAL", "TEST")
        with pytest.raises(ConfigError, match=rf"MODEL\.VOCABULARY\.{part}"):
            model([toy_sample(vocabulary=None)])

    def test_those_of_the_config(self):
        lists = ["MODEL.VOCABULARY.TRAIN", "voc_20", "MODEL.VOCABULARY.TEST", "context_59"]
        model = toy_model("CATSeg", *lists)
        sample = toy_sample(classes=20, vocabulary=None)
        with torch.no_grad():
            assert torch.isfinite(model([sample])["loss_sem_seg"])
            (output,) = model.eval()([sample])
        assert len(output["classes"]) == 59

    def test_too_many(self):
        model = toy_model("CATSeg", "MODEL.VOCABULARY.MOST_NAMES", "5").eval()
        with pytest.raises(ConfigError, match=r"6 names .*MOST_NAMES is 5"):
            model([toy_sample(vocabulary=vocabulary(6))])


class TestCheckpoints:
    @pytest.mark.parametrize("finetune", FINETUNE)
    def test_there_and_back(self, finetune):
        model = toy_model("CATSeg", *FINETUNE[finetune])
        disturb(trained(model).values(), by=0.05)
        again = toy_model("CATSeg", *FINETUNE[finetune], seed=5)
        again.load_checkpoint_header(model.checkpoint_header())
        again.load_checkpoint_state(model.checkpoint_state())
        with torch.no_grad():
            (one,), (other,) = (m.eval()([toy_sample()]) for m in (model, again))
        assert torch.equal(one["sem_seg"], other["sem_seg"])
        assert set(trained(model)) <= set(model.checkpoint_state())

    def test_another_clip_is_refused(self):
        header = toy_model().checkpoint_header()
        other = toy_model("CATSeg", "MODEL.RANDOM_WEIGHTS_SEED", "7")
        with pytest.raises(CheckpointError, match="seed 7"):
            other.load_checkpoint_header(header)
        with pytest.raises(CheckpointError, match="orthogonal"):
            toy_model("CATSeg", *TURNED).load_checkpoint_header(header)


def test_training_and_evaluation_see_alike():
    """Of the whole image, with the same pooling: the logits of one are those of the other."""
    same = ["TEST.SEMANTIC.POOLING", "(2,2)", "TEST.SLIDING.ENABLED", "False"]
    model, sample = toy_model("CATSeg", *same), toy_sample()
    with torch.no_grad():
        pixels = model.clip.preprocess([sample["image"]])
        logits = model.compare(pixels, CLASSES.names, model.training_pooling).logits_BTgg
        (output,) = model.eval()([sample])
    expected = torch.nn.functional.interpolate(logits.sigmoid(), (64, 64), mode="bilinear")[0]
    torch.testing.assert_close(output["sem_seg"], expected, atol=1e-5, rtol=1e-5)


def test_the_head_is_chosen_by_name():
    model = toy_model()
    assert isinstance(model.head, CostAggregationHead)
    assert model.ignore_value == 255


def test_labels_that_are_no_class_are_told_with_their_file():
    model = toy_model()
    samples = [toy_sample(0), {**toy_sample(1, classes=5), "file_name": "in/beach.jpg"}]
    with pytest.raises(ConfigError) as caught:
        model(samples)
    text = str(caught.value)
    assert text.startswith("in/beach.jpg: its ground truth has the label 3; the class list has 3 ")
    assert "labels are 0 to 2, and 255 (MODEL.SEM_SEG_HEAD.IGNORE_VALUE)" in text
    assert text.endswith("correct the label map, or complete the class list")
