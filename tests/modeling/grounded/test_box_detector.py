"""Grounding DINO: what is done to its boxes, and the real class at tiny size."""

import json
from types import SimpleNamespace

import pytest
import torch

from detecture.config.sections.baselines import GroundedSam3Settings
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.box_detector import Detections, GroundingDino, normalize_phrase
from detecture.modeling.box_detector.boxes import ranked_detections

BASE, CONFIG = "MODEL.GROUNDED_SAM3.DETECTOR_BASE", "MODEL.GROUNDED_SAM3.DETECTOR_CONFIG"
SIZE = (400, 200)


def make(**options):
    torch.manual_seed(0)
    kept = {key: options.pop(key) for key in set(options) & {"base", "structure"}}
    return GroundingDino(settings=GroundedSam3Settings(**options), **kept)


@pytest.fixture(scope="module")
def real():
    return make(box_threshold=0.0, text_threshold=0.0)


@pytest.fixture
def image():
    return torch.randint(0, 256, (3, *SIZE), generator=torch.manual_seed(1)).to(torch.uint8)


def ranked(boxes, scores, **options):
    boxes_R4 = torch.tensor(boxes).reshape(-1, 4)
    labels = [str(index) for index in range(len(boxes_R4))]
    return ranked_detections(boxes_R4, torch.tensor(scores), labels, SIZE, **options)


# ---- boxes ---------------------------------------------------------------------------------


def test_shares_of_the_image():
    found = Detections(torch.tensor([[10.0, 20.0, 110.0, 220.0]]), torch.ones(1), ["oak"], SIZE)
    torch.testing.assert_close(found.shares(), torch.tensor([[0.3, 0.3, 0.5, 0.5]]))
    assert found.best(0).shares().shape == (0, 4)


def test_boxes_are_ranked_and_equal_scores_keep_their_order():
    found = ranked([[0.0, 0, 9, 9]] * 4, [0.3, 0.5, 0.3, 0.9])
    assert found.labels == ["3", "1", "0", "2"]
    assert found.scores_R.tolist() == pytest.approx([0.9, 0.5, 0.3, 0.3])
    assert found.best(2).labels == ["3", "1"]
    assert len(found.best(9)) == 4


def test_boxes_are_clipped_and_those_without_area_dropped():
    outside, line, turned = [210.0, 0, 250, 9], [5.0, 5, 5, 9], [9.0, 9, 5, 5]
    unknown = [float("nan"), 0, 5, 5]
    found = ranked([[-5.0, 390, 210, 410], outside, line, turned, unknown], [0.5] * 5)
    assert found.labels == ["0"]
    assert found.boxes_R4.tolist() == [[0.0, 390.0, 200.0, 400.0]]


def test_duplicates_go_only_where_that_is_asked_for():
    boxes = [[0.0, 0, 100, 100], [0.0, 0, 100, 90], [0.0, 0, 100, 40], [120.0, 0, 199, 99]]
    scores = [0.5, 0.9, 0.3, 0.4]
    assert ranked(boxes, scores).labels == ["1", "0", "3", "2"]
    assert ranked(boxes, scores, nms_iou=0.8).labels == ["1", "3", "2"]
    assert ranked(boxes, scores, nms_iou=0.4).labels == ["1", "3"]
    assert ranked([boxes[0]] * 2, [0.5, 0.5], nms_iou=1.0).labels == ["0", "1"]


# ---- the phrase ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("texture regions", "texture regions ."),
        ("Water  Surface.", "water surface ."),
        ("foreground texture. background texture", "foreground texture . background texture ."),
        (" . oak .. ", "oak ."),
    ],
)
def test_phrase_is_normalized(given, wanted):
    assert normalize_phrase(given) == wanted
    assert normalize_phrase(wanted) == wanted


@pytest.mark.parametrize("given", ["", "  ", " . ."])
def test_empty_phrase(given):
    with pytest.raises(ConfigError, match=r"MODEL\.GROUNDED_SAM3\.PHRASE"):
        normalize_phrase(given)


# ---- what the library answers --------------------------------------------------------------


def answer(scores, boxes, words=slice(1, 4)):
    """What the model returns: `scores` at these tokens of each box, nothing elsewhere."""
    logits = torch.full((1, len(scores), 128), float("-inf"))
    for row, score in enumerate(scores):
        logits[0, row, words] = torch.logit(torch.tensor(score))
    return SimpleNamespace(logits=logits, pred_boxes=torch.tensor([boxes]).reshape(1, -1, 4))


@pytest.fixture
def detector(monkeypatch):
    """A detector whose model answers `given.answer`."""
    found = make()
    given = SimpleNamespace(answer=None)
    monkeypatch.setattr(found.model, "forward", lambda **inputs: given.answer)
    return found, given


def test_boxes_come_in_pixels_best_first(detector, image):
    found, given = detector
    box = [0.3, 0.3, 0.5, 0.5]
    given.answer = answer([0.25, 0.1, 0.7], [box, [0.5] * 4, [0.9, 0.9, 0.4, 0.4]])
    detections = found.detect(image, "Oak. Ash")
    assert detections.scores_R.tolist() == pytest.approx([0.7, 0.25])
    wanted = torch.tensor([[140.0, 280, 200, 400], [10, 20, 110, 220]])
    torch.testing.assert_close(detections.boxes_R4, wanted)
    assert detections.labels == ["oak", "oak"]  # the first three letters: not "ash"
    assert detections.size == SIZE


def test_no_box_is_an_answer(detector, image):
    found, given = detector
    given.answer = answer([0.1, 0.2], [[0.5] * 4] * 2)
    detections = found.detect(image, "oak")
    assert len(detections) == len(detections.labels) == len(detections.boxes_R4) == 0


def test_labels_hold_words_alone(detector, image):
    found, given = detector
    given.answer = answer([0.9], [[0.5] * 4], slice(0, 10))  # all tokens, marks included
    assert found.detect(image, "oak. ash").labels == ["oak. ash"]
    given.answer = answer([0.5], [[0.5] * 4])
    found.settings = GroundedSam3Settings(text_threshold=0.6)
    assert found.detect(image, "oak").labels == [""]


def test_near_duplicates_of_the_library(detector, image):
    found, given = detector
    given.answer = answer([0.5, 0.6], [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.48]])
    assert len(found.detect(image, "oak")) == 2
    found.settings = GroundedSam3Settings(box_nms=0.8)
    assert found.detect(image, "oak").scores_R.tolist() == pytest.approx([0.6])


# ---- the real class ------------------------------------------------------------------------


def test_real_boxes_lie_in_the_image(real, image):
    found = real.detect(image, "Texture regions")
    assert 1 < len(found) <= 20
    assert found.boxes_R4.min() >= 0
    assert (found.boxes_R4 <= torch.tensor([200, 400, 200, 400])).all()
    assert (found.boxes_R4[:, 2:] > found.boxes_R4[:, :2]).all()
    assert (found.scores_R.diff() <= 0).all()
    assert found.labels[0] == "texture regions"


def test_real_answer_depends_on_image_phrase_and_seed(real, image):
    found = real.detect(image, "oak")
    again = make(box_threshold=0.0).train().detect(image, "  OAK .")
    assert torch.equal(again.scores_R, found.scores_R)
    assert not torch.equal(real.detect(image, "ash").scores_R, found.scores_R)
    assert not torch.equal(real.detect(255 - image, "oak").scores_R, found.scores_R)
    assert not any(parameter.requires_grad for parameter in real.parameters())


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 200), (200, 3)])
def test_small_and_thin_images(real, size):
    found = real.detect(torch.zeros(3, *size, dtype=torch.uint8), "oak")
    assert found.size == size
    assert len(found) > 0


def test_phrase_that_is_too_long(real, image):
    with pytest.raises(ConfigError, match="203 tokens, the detector reads 128"):
        real.detect(image, "x" * 100 + ". " + "x" * 99)


def test_spelled_words_end_where_berts_do(real):
    ids = real._processor.tokenizer("oak . ash .")["input_ids"]
    assert (ids[0], ids[4], ids[-2], ids[-1]) == (101, 1012, 1012, 102)
    assert real._processor.tokenizer.unk_token_id not in ids


# ---- structures and weights ----------------------------------------------------------------


def test_structures(real, tmp_path):
    for structure in ({"d_model": "wide"}, {"nothing": 1, "backbone_config": 3}):
        with pytest.raises(ConfigError, match=f"{CONFIG} is no structure of Grounding DINO"):
            make(structure=structure)
    with pytest.raises(ConfigError, match="vocab_size 20 is too small"):
        make(structure={**real.model.config.to_dict(), "text_config": {"vocab_size": 20}})
    with pytest.raises(ConfigError, match=rf"{CONFIG}: 'small' .*\(tiny\)"):
        make(structure="small")


def test_folder(real, image, tmp_path):
    real.model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        make(base=str(tmp_path))
    real._processor.image_processor.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"test_folder.* no tokenizer of BERT"):
        make(base=str(tmp_path))
    real._processor.save_pretrained(tmp_path)
    loaded = make(base=str(tmp_path), box_threshold=0.0)
    assert torch.equal(loaded.detect(image, "oak").boxes_R4, real.detect(image, "oak").boxes_R4)
    assert loaded.model.dtype == torch.float32
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(CheckpointError, match="type clip, not Grounding DINO"):
        make(base=str(tmp_path))


def test_folder_whose_weights_are_not_whole(real, tmp_path):
    state = real.model.state_dict()
    gone = "model.text_projection.weight"
    del state[gone]
    real.model.save_pretrained(tmp_path, state_dict=state)
    real._processor.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"missing: {gone}"):
        make(base=str(tmp_path))


def test_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="comes with transformers")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        make(base="IDEA-Research/grounding-dino-tiny")
    for part in (BASE, "https://huggingface.co/IDEA-Research", "HF_HUB_OFFLINE=1", "local folder"):
        assert part in str(caught.value)
