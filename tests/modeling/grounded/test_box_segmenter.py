"""Boxes to masks: SAM 3's interactive part, and boxes as examples of a concept."""

import json

import pytest
import torch
from modeling.segmenter.toy_sam3 import make as make_sam3
from safetensors.torch import save_file

from detecture.errors import CheckpointError, ConfigError, DetectureError
from detecture.modeling.box_segmenter import BoxExemplar, BoxPrompt
from detecture.modeling.segmenter import Sam3Transformers

BOXES = torch.tensor([[0.3, 0.3, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.7, 0.6, 0.2, 0.4]])


def make(**options):
    torch.manual_seed(0)
    return BoxPrompt(**options)


@pytest.fixture(scope="module")
def box_prompt():
    return make()


@pytest.fixture(scope="module")
def exemplar():
    return BoxExemplar(make_sam3(Sam3Transformers, with_detector=True))


@pytest.fixture(params=["box_prompt", "exemplar"])
def segmenter(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def image():
    return torch.randint(0, 256, (3, 90, 60), generator=torch.manual_seed(1)).to(torch.uint8)


def test_boxes_share_one_encoding_and_do_not_see_each_other(segmenter, image):
    encoding = segmenter.encode_image(image)
    logits = segmenter.logits(encoding, BOXES)
    assert logits.shape[0] == 3
    assert logits.dtype == torch.float32
    for row, box in enumerate(BOXES):
        alone = segmenter.logits(encoding, box[None])[0]
        torch.testing.assert_close(logits[row], alone, atol=1e-4, rtol=1e-4)
    assert (logits[0] - logits[1]).abs().max() > 1e-3
    assert (logits[0] - logits[2]).abs().max() > 1e-3


def test_nothing_of_it_trains(segmenter, image):
    before = segmenter.logits(segmenter.encode_image(image), BOXES)
    segmenter.train()
    assert not any(part.training for part in segmenter.modules())
    assert not any(parameter.requires_grad for parameter in segmenter.parameters())
    assert torch.equal(segmenter.logits(segmenter.encode_image(image), BOXES), before)


def test_like_the_library_with_its_own_processor(box_prompt, image):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    side = {"height": 224, "width": 224}
    processor = transformers.Sam3TrackerProcessor(transformers.Sam3ImageProcessor(size=side))
    corners = [[[3.0, 4.5, 33.0, 49.5]]]  # x of 60, y of 90 pixels
    inputs = processor(images=image, input_boxes=corners, return_tensors="pt")
    with torch.no_grad():
        theirs = box_prompt.tracker(
            pixel_values=inputs["pixel_values"],
            input_boxes=inputs["input_boxes"],
            multimask_output=False,
        ).pred_masks[0, 0]
    shares = torch.tensor([[0.3, 0.3, 0.5, 0.5]])
    ours = box_prompt.logits(box_prompt.encode_image(image), shares)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert ours.std() > 0.1


def test_lower_precision(box_prompt, image):
    near = make(autocast=True)
    assert near.tracker.dtype == torch.float32
    ours = near.logits(near.encode_image(image), BOXES)
    exact = box_prompt.logits(box_prompt.encode_image(image), BOXES)
    assert 0 < (ours - exact).norm() < 0.2 * exact.norm()


def test_exemplar_needs_the_detector(image):
    bare = BoxExemplar(make_sam3(Sam3Transformers))
    with pytest.raises(DetectureError, match="with_detector=True"):
        bare.logits(bare.encode_image(image), BOXES)


# ---- structures and weights of the tracker -------------------------------------------------


def test_structures():
    key = "MODEL.GROUNDED_SAM3.BOX_CONFIG"
    with pytest.raises(ConfigError, match=f"{key} is no structure"):
        make(structure={"vision_config": 3})
    with pytest.raises(ConfigError, match=rf"{key}: 'small' .*\(tiny\)"):
        make(structure="small")


def whole_sam3(tracker):
    """Config and weights as of facebook/sam3: the tracker inside the video model."""
    names = {
        "vision_encoder.backbone.": "detector_model.vision_encoder.backbone.",
        "vision_encoder.neck.": "tracker_neck.",
        "": "tracker_model.",
    }
    state = {"detector_model.geometry_encoder.a": torch.zeros(1)}
    state["tracker_model.memory_encoder.a"] = torch.zeros(1)
    for name, tensor in tracker.state_dict().items():
        start = next(start for start in names if name.startswith(start))
        state[names[start] + name[len(start) :]] = tensor.clone()
    sections = tracker.config.to_dict()
    for name in ("prompt_encoder", "mask_decoder"):
        sections[f"{name}_config"]["model_type"] = f"sam3_tracker_video_{name}"
    sections |= {"model_type": "sam3_tracker_video", "image_size": 224}
    return {"model_type": "sam3_video", "tracker_config": sections}, state


def test_folder_of_the_whole_model(box_prompt, image, tmp_path):
    config, state = whole_sam3(box_prompt.tracker)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = BoxPrompt(base=str(tmp_path))
    ours = box_prompt.tracker.state_dict()
    theirs = loaded.tracker.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
    exact = box_prompt.logits(box_prompt.encode_image(image), BOXES)
    assert torch.equal(loaded.logits(loaded.encode_image(image), BOXES), exact)
    assert loaded.tracker.vision_encoder.backbone.layers[0].layer_norm1.eps == 1e-5
    del state["tracker_model.no_memory_embedding"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="missing: no_memory_embedding"):
        BoxPrompt(base=str(tmp_path))


def test_folder_of_the_tracker_alone(box_prompt, tmp_path):
    box_prompt.tracker.save_pretrained(tmp_path)
    loaded = BoxPrompt(base=str(tmp_path)).tracker.state_dict()
    ours = box_prompt.tracker.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in ours.items())


def test_weights_that_cannot_be_had(monkeypatch, tmp_path):
    with pytest.raises(CheckpointError, match=r"MODEL\.GROUNDED_SAM3\.BOX_BASE"):
        BoxPrompt(base=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam3"}))
    with pytest.raises(CheckpointError, match="type sam3, not SAM 3 with its tracker"):
        BoxPrompt(base=str(tmp_path))
    hub = pytest.importorskip("huggingface_hub", reason="comes with transformers")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        BoxPrompt(base="facebook/sam3")
    for part in ("MODEL.GROUNDED_SAM3.BOX_BASE 'facebook/sam3'", "licence", "HF_HUB_OFFLINE=1"):
        assert part in str(caught.value)
    assert "MODEL.SEGMENTER.BASE" not in str(caught.value)
    assert "{" not in str(caught.value)
