"""Automatic masks: the same as transformers' pipeline where that can do it, and where it cannot."""

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from transformers import pipeline

from detecture.config.sections.baselines import TextureSamSettings
from detecture.errors import ConfigError
from detecture.modeling.sam2 import generate_masks
from detecture.modeling.sam2.mask_generation import point_grid

ALL = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


def settings(**changes):
    return TextureSamSettings(**{"points_per_side": 4, **ALL, **changes})


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"pred_iou_thresh": 0.5},
        {"stability_score_thresh": 0.7, "stability_score_offset": 0.005},
        {"box_nms_thresh": 0.9},
    ],
    ids=str,
)
def test_the_pipeline_gives_the_same_on_a_square_image(sam2, processor, make_image, kept):
    image = make_image(90, 90)
    kept = settings(multimask_output=True, **kept)
    generator = pipeline("mask-generation", model=sam2, image_processor=processor, device="cpu")
    expected = generator(
        Image.fromarray(image.permute(1, 2, 0).numpy()),
        points_per_crop=4,
        points_per_batch=5,
        pred_iou_thresh=kept.pred_iou_thresh,
        stability_score_thresh=kept.stability_score_thresh,
        stability_score_offset=kept.stability_score_offset,
        crops_nms_thresh=kept.box_nms_thresh,
    )
    found = generate_masks(sam2, processor, image, kept)
    assert 1 <= len(found.rles) == len(expected["masks"]) <= 48
    assert kept == settings(multimask_output=True) or len(found.rles) < 48
    torch.testing.assert_close(torch.tensor(found.scores), expected["scores"])
    for index, mask in enumerate(expected["masks"]):
        assert float((found.mask(index) != mask).float().mean()) < 1e-3


def test_points_cover_a_image_that_is_not_square(sam2, processor, make_image, monkeypatch):
    asked = []
    forward = type(sam2).forward

    def spy(self, **kwargs):
        asked.append(kwargs["input_points"][0, :, 0])
        return forward(self, **kwargs)

    monkeypatch.setattr(type(sam2), "forward", spy)
    found = generate_masks(sam2, processor, make_image(30, 120), settings(points_per_batch=6))
    assert [len(points) for points in asked] == [6, 6, 4]
    assert found.size == (30, 120)
    # Of the square that SAM 2 sees, whatever the shape of the image.
    middles = [16.0, 48.0, 80.0, 112.0]
    assert torch.cat(asked).tolist() == [[x, y] for y in middles for x in middles]


def test_grid():
    assert point_grid(1).tolist() == [[0.5, 0.5]]
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_masks_are_ranked_and_do_not_depend_on_the_batch(sam2, processor, make_image):
    whole = generate_masks(sam2, processor, make_image(50, 70), settings())
    assert len(whole.rles) == 16
    assert whole.scores == sorted(whole.scores, reverse=True)
    for size in (1, 5):
        parts = generate_masks(sam2, processor, make_image(50, 70), settings(points_per_batch=size))
        np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-6)
        different = [(parts.mask(i) != whole.mask(i)).float().mean() for i in range(16)]
        assert max(different) < 1e-3
    # Texts, as they are stored, and what any reader of COCO unpacks.
    assert isinstance(whole.rles[0]["counts"], str)
    assert whole.mask(0).dtype == torch.bool
    assert (coco_mask.decode(whole.rles[0]) == whole.mask(0).numpy()).all()
    assert whole.mask(0).shape == (50, 70)


def test_thresholds_may_leave_nothing(sam2, processor, make_image):
    for strict in ({"pred_iou_thresh": 1.0}, {"stability_score_thresh": 1.0}):
        found = generate_masks(sam2, processor, make_image(40, 60), settings(**strict))
        assert (found.rles, found.scores, found.size) == ([], [], (40, 60))


def test_empty_masks_are_no_masks(sam2, processor, make_image, monkeypatch):
    decode = type(sam2.mask_decoder).forward

    def below(self, *args, **kwargs):
        masks, scores, *rest = decode(self, *args, **kwargs)
        masks[:, 1:] = -1.0
        return masks, scores, *rest

    monkeypatch.setattr(type(sam2.mask_decoder), "forward", below)
    found = generate_masks(sam2, processor, make_image(40, 60), settings())
    assert len(found.rles) == 1


def test_one_mask_a_point_is_the_first_unless_dynamic(sam2, processor, make_image):
    image = make_image(64, 64)
    single = generate_masks(sam2, processor, image, settings())
    triple = generate_masks(sam2, processor, image, settings(multimask_output=True))
    assert (len(single.rles), len(triple.rles)) == (16, 48)
    sam2.mask_decoder.dynamic_multimask_via_stability = True
    try:
        dynamic = generate_masks(sam2, processor, image, settings())
    finally:
        sam2.mask_decoder.dynamic_multimask_via_stability = False
    assert dynamic.scores[0] > single.scores[0]
    # All unstable: each point's best of three.
    assert set(np.round(dynamic.scores, 5)) <= set(np.round(triple.scores, 5))


def test_crops_bring_masks_of_their_own(sam2, processor, make_image, monkeypatch):
    """A blob in the middle of whatever SAM 2 is shown: one mask for the image and each crop."""
    decode = type(sam2.mask_decoder).forward

    def blob(self, *args, **kwargs):
        masks, *rest = decode(self, *args, **kwargs)
        masks[:] = -5.0
        masks[..., 12:20, 12:20] = 5.0
        return masks, *rest

    monkeypatch.setattr(type(sam2.mask_decoder), "forward", blob)
    kept = settings(box_nms_thresh=0.7, crop_n_layers=1)
    found = generate_masks(sam2, processor, make_image(160, 240), kept)
    assert found.scores == sorted(found.scores, reverse=True)
    boxes = coco_mask.toBbox(found.rles)
    # Crops of 107 x 147 pixels that overlap by 54; centres (x, y).
    centres = {(120, 80), (73.5, 53.5), (166.5, 53.5), (73.5, 106.5), (166.5, 106.5)}
    found_at = [tuple(box[:2] + box[2:] / 2) for box in boxes]
    assert len(found_at) == 5
    for x, y in centres:
        assert min(abs(x - u) + abs(y - v) for u, v in found_at) <= 2


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 90), (5, 5)])
@pytest.mark.parametrize("layers", [0, 3])
def test_images_of_a_few_pixels(sam2, processor, make_image, size, layers):
    found = generate_masks(sam2, processor, make_image(*size), settings(crop_n_layers=layers))
    assert found.size == size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points_per_side": 0}, r"MODEL\.TEXTURE_SAM\.POINTS_PER_SIDE is 0; it must be above 0"),
        ({"points_per_batch": -1}, "POINTS_PER_BATCH is -1; it must be above 0"),
        ({"pred_iou_thresh": 1.5}, r"PRED_IOU_THRESH is 1\.5; it must be at most 1"),
        ({"stability_score_thresh": -0.1}, "STABILITY_SCORE_THRESH"),
        ({"box_nms_thresh": float("nan")}, "BOX_NMS_THRESH is nan"),
        (
            {"stability_score_offset": -1.0},
            r"STABILITY_SCORE_OFFSET is -1\.0; it must be at least 0",
        ),
        ({"crop_n_layers": -1}, "CROP_N_LAYERS is -1"),
    ],
)
def test_settings_without_sense_are_refused_by_key(change, message):
    with pytest.raises(ConfigError, match=message):
        TextureSamSettings(**change)


def test_defaults_are_the_published_ones():
    assert TextureSamSettings() == TextureSamSettings(
        points_per_side=64,
        points_per_batch=64,
        pred_iou_thresh=0.8,
        stability_score_thresh=0.2,
        stability_score_offset=1.0,
        box_nms_thresh=0.7,
        crop_n_layers=0,
        multimask_output=False,
    )
