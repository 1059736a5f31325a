"""TextureSAM's published metrics: golden values (benchmark spec, 8.10) and a plain reference."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from sklearn.metrics import adjusted_rand_score
from toy import register_toy_dataset, write_toy_dataset

from detecture.config import make_config
from detecture.data import KHint, load_ground_truth, load_registered
from detecture.evaluation import TextureSegEvaluator
from detecture.evaluation.label_map import InvalidOutput
from detecture.evaluation.texture_sam_metric import (
    TouchedRegion,
    mean_over_images,
    mean_over_regions,
    summarize_touching,
    torchmetrics_row_score,
    touched_regions,
    touching_fields,
)

LABELS = np.zeros((4, 4), np.int32)
LABELS[:, 2:] = 1
LEFT, RIGHT = LABELS == 0, LABELS == 1
TOP_LEFT, BOTTOM_LEFT = LEFT.copy(), LEFT.copy()
TOP_LEFT[2:], BOTTOM_LEFT[:2] = False, False


def rle_of(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def test_golden_values():
    fragments = touched_regions([TOP_LEFT, BOTTOM_LEFT, RIGHT], LABELS)
    assert [(r.label, r.masks) for r in fragments] == [(0, 2), (1, 1)]
    iou, ari = mean_over_regions([fragments])
    assert iou == 0.75
    assert ari == pytest.approx(0.605263, abs=1e-6)
    assert mean_over_regions([touched_regions([LEFT], LABELS)]) == (1.0, 1.0)


def test_a_mask_over_both_counts_for_both():
    everything = np.ones((4, 4), bool)
    regions = touched_regions([LEFT, RIGHT, everything], LABELS)
    assert [(r.iou, r.masks) for r in regions] == [(0.75, 2), (0.75, 2)]
    assert regions[0].ari == pytest.approx(0.5)  # 1 and, for one cluster against two, 0


def test_untouched_regions_and_images_are_skipped_or_count_with_zero():
    one = [TouchedRegion(0, 0.4, 0.2, 1)]
    two = [TouchedRegion(0, 1.0, 1.0, 1), TouchedRegion(2, 0.1, 0.0, 3)]
    assert mean_over_regions([one, two, []]) == pytest.approx((0.5, 0.4))
    # The second image has four pairs: (1 + 3 * 0.1) / 4; the third none.
    assert mean_over_images([one, two, []]) == pytest.approx(((0.4 + 0.325) / 3, 0.15))
    assert mean_over_regions([[], []]) == mean_over_images([]) == (0.0, 0.0)
    assert touched_regions([], LABELS) == touched_regions([np.zeros((4, 4), bool)], LABELS) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_plain_reference(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (6, 7))
    masks = [rng.random((6, 7)) < share for share in (0.05, 0.3, 0.6, 1.0)]
    expected = []
    for label in range(4):
        region = labels == label
        touching = [mask for mask in masks if (mask & region).any()]
        if touching:
            ious = [(mask & region).sum() / (mask | region).sum() for mask in touching]
            aris = [adjusted_rand_score(mask.ravel(), region.ravel()) for mask in touching]
            expected.append((label, np.mean(ious), np.mean(aris), len(touching)))
    found = [(r.label, r.iou, r.ari, r.masks) for r in touched_regions(masks, labels)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_row_quirk_of_the_aggregated_columns():
    half = np.zeros((4, 4), np.uint8)
    half[2:, :2] = 255
    assert torchmetrics_row_score(half, half) == 0.5  # perfect
    assert torchmetrics_row_score(255 - half, 255 - half) == 1.0
    true = np.array([[1, 1, 2, 2], [3, 3, 2, 2], [3, 3, 0, 0], [0, 0, 0, 0]])
    assert torchmetrics_row_score(true, true) == 0.75
    merged = np.where(true == 3, 1, true)
    assert torchmetrics_row_score(merged, true) == pytest.approx(0.483333, abs=1e-6)


def test_masks_in_a_record_take_no_room():
    masks = [rle_of(mask) for mask in (TOP_LEFT, BOTTOM_LEFT, RIGHT)]
    fields = touching_fields(masks, LABELS)
    assert fields["num_masks"] == 3
    assert [row[::3] for row in fields["touched_regions"]] == [[0, 2], [1, 1]]
    assert json.loads(json.dumps(fields)) == fields
    with pytest.raises(InvalidOutput, match=r"RLE of size \[4, 4\], got size \[2, 8\]"):
        touching_fields([rle_of(np.ones((2, 8), bool))], LABELS)
    with pytest.raises(InvalidOutput, match="got ndarray"):
        touching_fields([LEFT], LABELS)


def test_columns_of_a_summary():
    good = touching_fields([rle_of(m) for m in (TOP_LEFT, BOTTOM_LEFT, RIGHT)], LABELS)
    found = summarize_touching([good, {"num_masks": 0, "touched_regions": []}, {}])
    assert found["touching_IoU"] == 0.75
    assert found["touching_ARI"] == pytest.approx(0.605263, abs=1e-6)
    assert found["touching_IoU_by_image"] == pytest.approx((0.5 + 0.5 + 1.0) / 3 / 3)
    assert found["masks_per_image"] == 1.0
    assert summarize_touching([{"mIoU": 1.0}]) == {}


def test_the_evaluator_scores_all_masks_besides(tmp_path):
    dataset = register_toy_dataset(write_toy_dataset(tmp_path / "toy"))
    cfg = make_config(None, ["TEST.BOOTSTRAP_SAMPLES", "10"])
    evaluator = TextureSegEvaluator(cfg, dataset, tmp_path / "out")
    records = load_registered(dataset)
    for number, record in enumerate(records):
        masks = load_ground_truth(record, 10**6).masks
        output = {
            "sem_seg": torch.zeros(2, *masks.shape[1:]),
            "descriptions": [""],
            "status": "ok",
            "all_masks": [rle_of(mask) for mask in masks],
        }
        if number == 0:
            output["all_masks"] = [rle_of(np.ones((2, 2), bool))]
        elif number == 1:
            output = {"status": "exception", "error": "boom"}
        sample = {"image_id": record["image_id"], "k_hint": KHint("fixed", 1)}
        evaluator.process([sample], [output])
    found = evaluator.evaluate()["texture"]
    assert (found["touching_IoU"], found["touching_ARI"]) == (1.0, 1.0)
    assert found["touching_IoU_by_image"] == pytest.approx(1 - 2 / len(records))
    lines = (tmp_path / "out/records.jsonl").read_text().splitlines()[1:]
    first, second, third = (json.loads(line) for line in lines[:3])
    assert first["status"] == "invalid_output"
    assert "all_masks must be COCO RLE" in first["error"]
    assert "touched_regions" not in second
    assert third["num_masks"] == len(third["touched_regions"]) == 2
