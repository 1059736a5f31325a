"""The meta-arch: from boxes to regions, with boxes given and with the real classes."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from detecture import engine
from detecture.config import make_config
from detecture.config.sections.baselines import GroundedSam3Settings
from detecture.data import KHint
from detecture.engine.predictor import TexturePredictor
from detecture.errors import ConfigError
from detecture.evaluation.label_map import scores_to_label_map
from detecture.modeling import build_model
from detecture.modeling.box_detector import Detections
from detecture.modeling.box_segmenter import BoxSegmenter
from detecture.modeling.meta_arch import GroundedSam3
from detecture.modeling.region_channels import MISSING_LOGIT

REPO = Path(__file__).resolve().parents[3]
TINY = REPO / "configs/baselines/grounded_sam3_tiny.yaml"
HEIGHT, WIDTH = 40, 60
VARIANT = "MODEL.GROUNDED_SAM3.VARIANT"


class FoundBoxes(torch.nn.Module):
    """A detector that finds the same boxes in every image."""

    def __init__(self, boxes):
        super().__init__()
        self.boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)

    def detect(self, image, phrase):
        assert phrase == "texture regions ."
        count = len(self.boxes)
        scores = torch.linspace(0.9, 0.3, count)
        labels = [f"region {index}" for index in range(count)]
        return Detections(self.boxes, scores, labels, tuple(image.shape[1:]))


class FilledBoxes(BoxSegmenter):
    """Logits of a box: `inside` in it, -2 around it, on 20 x 20 pixels; counts what it encodes."""

    def __init__(self, inside=3.0):
        super().__init__()
        self.inside = inside
        self.encoded = 0

    def encode_image(self, image):
        self.encoded += 1
        return image

    def logits(self, encoding, boxes_R4):
        grid = (torch.arange(20) + 0.5) / 20
        centre, half = boxes_R4[:, :2, None], boxes_R4[:, 2:, None] / 2
        inside_R2n = (grid - centre).abs() < half
        inside = inside_R2n[:, 1, :, None] & inside_R2n[:, 0, None]
        return torch.where(inside, self.inside, -2.0)


def method(boxes, inside=3.0, **options):
    kept = {key: options.pop(key) for key in set(options) & {"max_regions", "dustbin_logit"}}
    parts = {"detector": FoundBoxes(boxes), "segmenter": FilledBoxes(inside)}
    return GroundedSam3(**parts, settings=GroundedSam3Settings(**options), **kept)


def sample(k=None):
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.manual_seed(1))
    hint = KHint() if k is None else KHint("fixed", k)
    size = {"height": HEIGHT, "width": WIDTH}
    return {"image": image.to(torch.uint8), "k_hint": hint, "image_id": "x", **size}


def strips(count):
    """Upright strips of 6 pixels that leave something over."""
    return [[6.0 * index, 0, 6.0 * index + 6, HEIGHT] for index in range(count)]


def build(*overrides):
    return build_model(make_config(TINY, ["MODEL.DEVICE", "cpu", *overrides])).eval()


# ---- counts --------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["exemplar", "inverse", "box"])
def test_no_box_with_two_regions_is_two_empty_regions(variant):
    found = method([], variant=variant)
    (output,) = found([sample(2)])
    assert output["status"] == "no_region"
    assert output["descriptions"] == ["", ""]
    assert output["sem_seg"].shape == (3, HEIGHT, WIDTH)
    assert bool((output["sem_seg"][:2] == MISSING_LOGIT).all())
    assert found.segmenter.encoded == 0  # nothing was to be segmented


@pytest.mark.parametrize("variant", ["exemplar", "box"])
def test_counts(variant):
    nine = method(strips(9), variant=variant)
    (blind,) = nine([sample()])
    assert blind["descriptions"] == [f"region {index}" for index in range(6)]
    assert blind["sem_seg"].shape == (7, HEIGHT, WIDTH)
    (told,) = nine([sample(8)])  # the count that was told is not cut to MAX_REGIONS
    assert len(told["descriptions"]) == 8
    (one,) = method(strips(1), variant=variant)([sample(3)])
    assert one["descriptions"] == ["region 0", "", ""]
    assert bool((one["sem_seg"][1:3] == MISSING_LOGIT).all())
    assert one["status"] == "ok"
    (none,) = method([], variant=variant)([sample()])
    assert none["sem_seg"].shape == (1, HEIGHT, WIDTH)
    assert none["status"] == "no_region"


def test_image_is_encoded_once_for_all_boxes_and_counts():
    found = method(strips(5), variant="box")
    found([sample(), sample(2)])
    assert found.segmenter.encoded == 2
    ready = {**sample(2), "encoding": found.encode_image(sample())}
    (again,) = found([ready])
    assert found.segmenter.encoded == 3
    assert torch.equal(again["sem_seg"], found([sample(2)])[0]["sem_seg"])


# ---- channels ------------------------------------------------------------------------------


def test_exemplar_channels_are_the_logits_in_the_boxes_order():
    large, small = [0.0, 0, 60, 40], [15.0, 10, 45, 30]
    (output,) = method([large, small])([sample()])
    assert output["sem_seg"][0].unique().tolist() == [3.0]
    assert output["sem_seg"][1].max() == 3.0
    assert bool((output["sem_seg"][2] == 0).all())
    assert set(scores_to_label_map(output["sem_seg"]).flatten()) == {1}


def test_inverse_is_a_mask_and_its_complement():
    half = [0.0, 0, 30, 40]
    (output,) = method([half, [0.0, 0, 9, 9]], variant="inverse")([sample(2)])
    first, second, dustbin = output["sem_seg"]
    assert torch.equal(first, -second)
    assert bool((dustbin == 0).all())
    labels = scores_to_label_map(output["sem_seg"])
    assert set(labels[:, :29].flatten()) == {1}
    assert set(labels[:, 32:].flatten()) == {2}
    assert output["descriptions"] == ["region 0", ""]


@pytest.mark.parametrize("k", [None, 1, 3])
def test_inverse_is_for_two_regions(k):
    with pytest.raises(ConfigError, match=r"VARIANT inverse .* set TEST\.COUNT 2"):
        method(strips(2), variant="inverse")([sample(k)])


@pytest.mark.parametrize("box_masks", ["hard", "soft"])
def test_nested_boxes_keep_the_smaller_mask(box_masks):
    large, small = [0.0, 0, 60, 40], [15.0, 10, 45, 30]
    found = method([large, small], variant="box", box_masks=box_masks)
    (output,) = found([sample()])
    assert output["descriptions"] == ["region 1", "region 0"]
    labels = scores_to_label_map(output["sem_seg"])
    assert labels[20, 30] == 1
    assert labels[0, 0] == 2
    assert set(labels.flatten()) == {1, 2}


def test_hard_and_soft_masks():
    boxes = [[0.0, 0, 30, 40]]
    (hard,) = method(boxes, variant="box")([sample()])
    assert hard["sem_seg"][0].unique().tolist() == [-5.0, 5.0]
    (soft,) = method(boxes, variant="box", box_masks="soft")([sample()])
    expected = 5 * (2 * torch.sigmoid(torch.tensor(3.0)) - 1)
    torch.testing.assert_close(soft["sem_seg"][0].max(), expected)
    assert torch.equal(soft["sem_seg"][0] >= 0, hard["sem_seg"][0] >= 0)


# ---- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("PHRASE", "' . '", "must be told what to look for"),
        ("VARIANT", "boxes", "use one of exemplar, inverse, box"),
        ("BOX_MASKS", "smooth", "use one of hard, soft"),
        ("BOX_NMS", "1.5", "at most 1"),
        ("BOX_THRESHOLD", "-0.1", "at least 0"),
        ("TEXT_THRESHOLD", "2.0", "at most 1"),
    ],
)
def test_settings_that_make_no_sense(key, value, message):
    with pytest.raises(ConfigError, match=rf"MODEL\.GROUNDED_SAM3\.{key} .*{message}"):
        build(f"MODEL.GROUNDED_SAM3.{key}", value)


def test_config_of_the_real_weights():
    cfg = make_config(REPO / "configs/baselines/grounded_sam3.yaml", [])
    assert cfg.MODEL.META_ARCHITECTURE == "GroundedSam3"
    assert cfg.MODEL.GROUNDED_SAM3.DETECTOR_BASE == "IDEA-Research/grounding-dino-tiny"
    assert cfg.MODEL.SEGMENTER.BASE == cfg.MODEL.GROUNDED_SAM3.BOX_BASE == "facebook/sam3"
    assert (cfg.MODEL.GROUNDED_SAM3.BOX_THRESHOLD, cfg.MODEL.GROUNDED_SAM3.BOX_NMS) == (0.2, 1.0)


# ---- the real classes at tiny size ---------------------------------------------------------


@pytest.mark.parametrize("variant", ["exemplar", "box"])
def test_real_classes(variant, caplog):
    model = build(VARIANT, variant)
    assert "random weights" in caplog.text
    (blind,), (three,) = model([sample()]), model([sample(3)])
    assert blind["sem_seg"].shape == (7, HEIGHT, WIDTH)
    assert three["sem_seg"].shape == (4, HEIGHT, WIDTH)
    assert bool(blind["sem_seg"].isfinite().all())
    torch.manual_seed(7)  # the weights come from MODEL.RANDOM_WEIGHTS_SEED alone
    again = build(VARIANT, variant).train()([sample()])[0]
    assert torch.equal(again["sem_seg"], blind["sem_seg"])
    other = build(VARIANT, variant, "MODEL.RANDOM_WEIGHTS_SEED", "1")([sample()])[0]
    assert not torch.equal(other["sem_seg"], blind["sem_seg"])
    batch = model([sample(3), {**sample(2), "image": 255 - sample()["image"]}])
    torch.testing.assert_close(batch[0]["sem_seg"], three["sem_seg"])


@pytest.mark.parametrize("variant", ["exemplar", "box"])
def test_real_classes_in_lower_precision(variant):
    exact = build(VARIANT, variant, "MODEL.GROUNDED_SAM3.BOX_MASKS", "soft")
    near = build(VARIANT, variant, "MODEL.GROUNDED_SAM3.BOX_MASKS", "soft",
                 "MODEL.DTYPE", "bfloat16")  # fmt: skip
    found, expected = (model([sample(2)])[0]["sem_seg"][:2] for model in (near, exact))
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() < 0.2 * expected.norm()


def test_predictor_asks_several_questions_of_one_image():
    predictor = TexturePredictor(build(VARIANT, "box"))
    image = sample()["image"].permute(1, 2, 0).numpy()
    predictor.set_image(image)
    for count in (2, 4):
        result = predictor.predict(count=count)
        assert (result.label_map == predictor(image, count=count).label_map).all()
        assert len(result.descriptions) == count


def test_evaluation_by_the_command_line(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("train_net", REPO / "tools/train_net.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(REPO)
    for variant, count in (("exemplar", "regime"), ("inverse", "2"), ("box", "regime")):
        out = tmp_path / variant
        command = ["--config-file", str(TINY), "--eval-only", VARIANT, variant]
        command += ["TEST.COUNT", count, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(out)]
        command += ["TEST.BOOTSTRAP_SAMPLES", "50"]
        assert engine.run(tool.main, engine.argument_parser().parse_args(command)) == 0
        summary = json.loads((out / "inference/samples/summary.json").read_text())
        assert summary["n_ok"] == summary["n_total"] == 6
