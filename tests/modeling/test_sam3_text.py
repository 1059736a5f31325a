"""SAM 3 alone: golden answers by given logits, then the real classes with random weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from detecture.config import make_config
from detecture.config.sections.baselines import Sam3TextSettings
from detecture.data import KHint
from detecture.errors import CheckpointError, ConfigError, DetectureError
from detecture.evaluation.label_map import scores_to_label_map
from detecture.evaluation.metrics import score_label_map
from detecture.modeling import build_model
from detecture.modeling.meta_arch import Sam3Text
from detecture.modeling.region_channels import MISSING_LOGIT
from detecture.modeling.segmenter import Proposals, build_segmenter
from detecture.modeling.segmenter.byte_tokenizer import ByteTokenizer
from detecture.modeling.segmenter.name_map import transformers_to_meta

REPO = Path(__file__).parents[2]
TINY = str(REPO / "configs/baselines/sam3_text_tiny.yaml")
PAIR = KHint("regime", 2)
BACKENDS = ("Sam3Transformers", "Sam3Meta")

LEFT = torch.tensor([True, True, False, False]).expand(4, 4)
HALVES = torch.stack([LEFT, ~LEFT]).numpy()
WHOLE, CENTRE = torch.ones(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
CENTRE[1:3, 1:3] = True


class GivenLogits(nn.Module):
    """Answers with given logits: `phrases` to planes (h,w), and proposals (Q,h,w) with scores."""

    def __init__(self, planes=None, masks=None, scores=()):
        super().__init__()
        self.planes, self.masks, self.scores = planes or {}, masks, torch.tensor(scores)
        self.asked = []

    def require_text(self):
        pass

    def require_detector(self):
        pass

    def preprocess(self, images):
        return torch.stack([image.float() for image in images])

    def encode_image(self, pixels):
        self.asked.append("image")
        return pixels

    def text_features(self, phrases):
        self.asked += phrases
        names = list(self.planes)
        index = [names.index(p) if p in names else 0 for p in phrases]
        return torch.tensor(index).float().view(-1, 1, 1), torch.ones(len(phrases), 1).bool()

    def semantic_logits(self, features, index, prompt, mask):
        planes = list(self.planes.values())
        return torch.stack([planes[int(i)] for i in prompt.flatten()])[:, None]

    def proposals(self, features, index, prompt, mask):
        return Proposals(self.masks[None], self.scores[None], torch.zeros(1, len(self.scores), 4))


def sample(hint=PAIR, size=(4, 4), side=8):
    image = torch.arange(3 * side * side, dtype=torch.uint8).view(3, side, side)
    height, width = size
    return {"image": image, "height": height, "width": width, "k_hint": hint, "image_id": "x"}


def planes(*rows):
    """Planes (4,4) of which every row is the same."""
    return [torch.tensor(row).expand(4, 4) for row in rows]


def hard(*masks):
    return torch.stack([torch.where(mask, 100.0, -100.0) for mask in masks])


def figures(output, truth=HALVES):
    labels = scores_to_label_map(output["sem_seg"])
    score = score_label_map(labels, len(output["descriptions"]), truth)
    return [
        score.matched_iou,
        score.panoptic_iou,
        score.matched_dice,
        score.ari,
        score.dustbin_coverage,
    ]


def text_model(segmenter, max_regions=6, **settings):
    """Sam3Text, with lists of phrases as a config has them."""
    if isinstance(settings.get("phrases"), list):
        settings["phrases"] = tuple(settings["phrases"])
    return Sam3Text(
        segmenter=segmenter, settings=Sam3TextSettings(**settings), max_regions=max_regions
    )


# ---- golden answers ---------------------------------------------------------------------------


def test_golden_perfect_phrases():
    first, second = planes([2.0, 1.0, -1.0, -2.0], [-3.0, -1.0, 0.5, 3.0])
    segmenter = GivenLogits({"oak": first, "brick": second})
    model = text_model(segmenter, phrases=["oak", "brick"])
    output = model([sample()])[0]
    assert figures(output) == pytest.approx([1, 1, 1, 1, 0])  # G1
    assert output["descriptions"] == ["oak", "brick"]
    assert output["status"] == "ok"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([3.0, 0.0, -1.0, -2.0], [1, 1, 1, 1, 0]),  # G8
        ([2.0, 2.0, 2.0, 2.0], [0.25, 0.25, 1 / 3, 0, 0]),  # G9
    ],
)
def test_golden_inverse(row, expected):
    segmenter = GivenLogits({"texture": planes(row)[0]})
    model = text_model(segmenter, variant="inverse", phrases=["texture", "unused"])
    output = model([sample()])[0]
    assert figures(output) == pytest.approx(expected, abs=1e-6)
    assert torch.equal(output["sem_seg"][1], -output["sem_seg"][0])
    assert output["descriptions"] == ["texture", ""]
    assert segmenter.asked == ["image", "texture"]


def of_proposals(masks, scores, **settings):
    segmenter = GivenLogits(masks=masks, scores=scores)
    return text_model(segmenter, variant="proposals", phrases=["stuff"], **settings)


def test_golden_one_good_proposal():
    output = of_proposals(hard(~LEFT, LEFT), [0.3, 0.9], score_threshold=0.5)([sample()])[0]
    assert figures(output) == pytest.approx([0.5, 0.5, 0.5, 1.0, 0.5])  # G3
    assert output["descriptions"] == ["stuff", ""]
    assert (output["sem_seg"][1] == MISSING_LOGIT).all()


def test_golden_no_proposal():
    output = of_proposals(hard(LEFT, ~LEFT), [0.3, 0.5], score_threshold=0.5)([sample()])[0]
    assert figures(output) == pytest.approx([0, 0, 0, 0, 1])  # G4
    assert output["status"] == "no_region"
    blind = of_proposals(hard(LEFT), [0.3], score_threshold=0.5)([sample(KHint())])[0]
    assert blind["sem_seg"].shape == (1, 4, 4)
    assert blind["descriptions"] == []


@pytest.mark.parametrize(
    ("smallest", "expected"), [(False, [0.375, 0.375, 3 / 7, 0, 0]), (True, [1, 1, 1, 1, 0])]
)
def test_golden_nested_proposals(smallest, expected):
    model = of_proposals(hard(WHOLE, CENTRE), [0.9, 0.8], smallest_on_top=smallest)
    truth = torch.stack([~CENTRE, CENTRE]).numpy()
    assert figures(model([sample()])[0], truth) == pytest.approx(expected, abs=1e-6)  # G7, G7b


def test_golden_soft_proposals():
    soft = torch.stack(planes([0.9, 0.6, 0.5, 0.1], [0.2, 0.55, 0.5, 0.8])).logit()
    output = of_proposals(soft, [0.9, 0.8])([sample()])[0]
    assert figures(output) == pytest.approx(
        [7 / 12, 7 / 12, 0.733333, 0.210526, 0], abs=1e-6
    )  # G12


def test_golden_proposals_without_a_count():
    top, bottom = LEFT.clone(), LEFT.clone()
    top[2:] = False
    bottom[:2] = False
    masks = hard(top, bottom, ~LEFT, CENTRE)
    model = of_proposals(masks, [0.7, 0.8, 0.9, 0.4], score_threshold=0.5)
    output = model([sample(KHint())])[0]
    assert figures(output)[:2] == pytest.approx([0.75, 0.5])  # G5
    assert output["descriptions"] == ["stuff"] * 3
    few = of_proposals(masks, [0.7, 0.8, 0.9, 0.4], max_regions=2)([sample(KHint())])[0]
    assert scores_to_label_map(few["sem_seg"])[0].tolist() == [0, 0, 1, 1]  # the best one first
    assert scores_to_label_map(few["sem_seg"])[3].tolist() == [2, 2, 1, 1]


def test_duplicate_proposals():
    almost = LEFT.clone()
    almost[0, 0] = False  # IoU 7/8
    masks, scores = hard(LEFT, almost, ~LEFT), [0.9, 0.8, 0.7]
    assert figures(of_proposals(masks, scores)([sample()])[0])[0] < 0.8
    kept = of_proposals(masks, scores, duplicate_iou=0.8)([sample()])[0]
    assert figures(kept) == pytest.approx([1, 1, 1, 1, 0])
    all_three = of_proposals(masks, scores, duplicate_iou=0.9)([sample(KHint())])[0]
    assert len(all_three["descriptions"]) == 3


def test_sizes_come_before_thresholds():
    small = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
    large = functional.interpolate(small[None, None], (6, 4), mode="bilinear")[0, 0]
    at = {"size": (6, 4)}
    semantic = text_model(GivenLogits({"a": small}), phrases=["a"])
    assert torch.equal(semantic([sample(**at)])[0]["sem_seg"][0], large)
    inverse = text_model(GivenLogits({"a": small}), phrases=["a"], variant="inverse")
    assert torch.equal(inverse([sample(**at)])[0]["sem_seg"][1], -large)
    soft = of_proposals(small[None], [0.9])([sample(**at)])[0]["sem_seg"][0]
    torch.testing.assert_close(soft, 5 * (2 * large.sigmoid() - 1))


# ---- settings -----------------------------------------------------------------------------------


def test_phrases_are_cut_or_the_last_is_repeated():
    logits = dict(zip("abc", planes([1.0] * 4, [2.0] * 4, [3.0] * 4), strict=True))
    segmenter = GivenLogits(logits)
    model = text_model(segmenter, phrases=["a", "b", "c"])
    for hint, expected in (
        (KHint(), ["a", "b", "c"]),
        (KHint("fixed", 1), ["a"]),
        (PAIR, ["a", "b"]),
        (KHint("per_image", 5), ["a", "b", "c", "c", "c"]),
    ):
        segmenter.asked.clear()
        output = model([sample(hint)])[0]
        assert output["descriptions"] == expected
        values = [float("abc".index(phrase) + 1) for phrase in expected]
        assert output["sem_seg"][:-1, 0, 0].tolist() == values
        assert output["sem_seg"][-1].eq(0.0).all()
        assert segmenter.asked == ["image", *expected[:3]]  # every phrase once


@pytest.mark.parametrize("hint", [KHint(), KHint("regime", 1), KHint("fixed", 3)])
def test_inverse_is_for_two_regions(hint):
    model = text_model(GivenLogits({"a": LEFT.float()}), variant="inverse", phrases=["a"])
    with pytest.raises(ConfigError, match=f"inverse.*{hint.k or 'unknown'}.*'{hint.kind}'"):
        model([sample(hint)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"phrases": []}, "PHRASES is .*one phrase or more"),
        ({"phrases": "texture"}, "PHRASES is 'texture'"),
        ({"phrases": ["oak", " "]}, "phrase 2 is empty"),
        ({"phrases": ["oak", 3]}, "phrase 2 is empty or no text"),
        ({"variant": "invers"}, "VARIANT is 'invers'; use one of semantic, inverse, proposals"),
        ({"score_threshold": 1.5}, r"SCORE_THRESHOLD is 1\.5"),
        ({"score_threshold": float("nan")}, "SCORE_THRESHOLD is nan"),
        ({"duplicate_iou": -0.1}, r"DUPLICATE_IOU is -0\.1"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ConfigError, match=message):
        text_model(GivenLogits(), **settings)


# ---- the real classes, with random weights -------------------------------------------------------


def build(*overrides, backend="Sam3Transformers"):
    if backend == "Sam3Meta":
        pytest.importorskip("sam3", reason="needs Meta's package: pip install detecture[meta-sam3]")
    words = ["MODEL.SEGMENTER.NAME", backend, "MODEL.DEVICE", "cpu", *map(str, overrides)]
    return build_model(make_config(TINY, words)).eval()


def variant(name, **settings):
    words = ["MODEL.SAM3_TEXT.VARIANT", name]
    for key, value in settings.items():
        words += [f"MODEL.SAM3_TEXT.{key}", value]
    return words


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["semantic", "inverse", "proposals"])
def test_variants(name, backend):
    model = build(*variant(name), backend=backend)
    image = sample(size=(30, 40), side=50)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        image["image"] = torch.randint(0, 256, (3, 50, 60), dtype=torch.uint8)
    output = model([image, image])[0]
    assert output["sem_seg"].shape == (3, 30, 40)
    assert output["sem_seg"].dtype == torch.float32
    assert output["sem_seg"].isfinite().all()
    assert output["sem_seg"][0].std() > 1e-4
    assert output["status"] == "ok"
    encoded = model([{**image, "encoding": model.encode_image(image), "image": None}])[0]
    assert torch.equal(encoded["sem_seg"], output["sem_seg"])
    if name == "proposals":
        assert model.segmenter.has_detector
        assert (output["sem_seg"][:2].abs() <= 5).all()
        blind = model([{**image, "k_hint": KHint()}])[0]
        assert len(blind["descriptions"]) == 6  # MODEL.MAX_REGIONS, of 8 queries
        assert torch.equal(blind["sem_seg"][:2], output["sem_seg"][:2])
    else:
        assert not model.segmenter.has_detector


def test_phrases_matter_and_come_from_the_text_encoder():
    image = sample(size=(30, 40), side=50)
    model = build(*variant("semantic", PHRASES='("oak", "brick")'))
    swapped = build(*variant("semantic", PHRASES='("brick", "oak")'))
    output, other = model([image])[0]["sem_seg"], swapped([image])[0]["sem_seg"]
    torch.testing.assert_close(output[[1, 0]], other[:2], atol=1e-5, rtol=1e-5)
    assert (output[0] - output[1]).abs().max() > 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_frozen_and_the_same_from_the_same_seed(backend):
    model = build(backend=backend)
    model.train()
    assert not model.segmenter.training
    assert not any(p.requires_grad for p in model.parameters())
    again = build(backend=backend)
    other = build("MODEL.RANDOM_WEIGHTS_SEED", 1, backend=backend)
    image = sample(size=(30, 40), side=50)
    found = [m([image])[0]["sem_seg"] for m in (model, again, other)]
    assert found[0].isfinite().all()
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["semantic", "proposals"])
def test_dtype(backend, name):
    image = sample(size=(30, 40), side=50)
    exact = build(*variant(name), backend=backend)([image])[0]["sem_seg"]
    model = build(*variant(name), "MODEL.DTYPE", "bfloat16", backend=backend)
    assert model.segmenter.dtype == torch.bfloat16
    output = model([image])[0]["sem_seg"]
    assert output.dtype == torch.float32
    if name == "semantic":  # a rounding may change the order of proposals
        assert (output - exact).norm() < 0.1 * exact.norm()


def test_weights_that_cannot_be_had(tmp_path):
    folder = str(tmp_path)
    with pytest.raises(CheckpointError, match=r"MODEL\.SEGMENTER\.BASE"):
        build("MODEL.SEGMENTER.BASE", folder)
    with pytest.raises(CheckpointError, match=r"MODEL\.SEGMENTER\.TOKENIZER"):
        build("MODEL.SEGMENTER.TOKENIZER", folder)
    # A file of Meta's holds no tokenizer, which is said at once.
    segmenter = build_segmenter(make_config(TINY, []), with_text=True)
    file = tmp_path / "sam3.safetensors"
    save_file(transformers_to_meta(segmenter.state_dict()), file)
    with pytest.raises(DetectureError, match=r"MODEL\.SEGMENTER\.TOKENIZER"):
        build("MODEL.SEGMENTER.BASE", file)


def test_the_gated_weights_offline(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="comes with transformers")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cfg = make_config(str(REPO / "configs/baselines/sam3_text.yaml"), ["MODEL.DEVICE", "cpu"])
    with pytest.raises(CheckpointError, match=r"MODEL\.SEGMENTER\.BASE.*accept the licence"):
        build_model(cfg)


def test_tokenizer_of_bytes():
    tokenizer = ByteTokenizer(vocab_size=300, context_length=6)
    ids, mask = tokenizer(["oak", "façade of", ""])
    assert ids[0].tolist() == [0, *b"oak", 0, 0]
    assert ids[1].tolist() == [0, *"façade of".encode()[:5]]
    assert mask.sum(1).tolist() == [4, 6, 1]  # no phrase is without a token
    folded, _ = ByteTokenizer(vocab_size=50, context_length=6)(["oak"])
    assert folded.max() < 50


def test_evaluation_on_the_samples(tmp_path):
    command = [sys.executable, str(REPO / "tools/train_net.py"), "--config-file", TINY]
    words = ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)]
    done = subprocess.run([*command, "--eval-only", *words], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    summary = json.loads((tmp_path / "inference/samples/summary.json").read_text())
    assert summary["n_ok"] == summary["n_total"] == 6
