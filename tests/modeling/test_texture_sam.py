"""TextureSam: from automatic masks to regions, and the whole of it at tiny size."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from detecture.config import make_config
from detecture.config.sections.baselines import TextureSamSettings
from detecture.data.k_hint import KHint
from detecture.engine import TexturePredictor
from detecture.errors import ConfigError
from detecture.evaluation.label_map import check_output, scores_to_label_map
from detecture.modeling import build_model
from detecture.modeling.meta_arch import TextureSam
from detecture.modeling.sam2 import AutomaticMasks, build_sam2

REPO = Path(__file__).parents[2]
TINY = REPO / "configs/baselines/texture_sam_tiny.yaml"


@pytest.fixture(scope="module")
def model():
    return build_model(make_config(TINY, ["MODEL.DEVICE", "cpu"])).eval()


def automatic(*masks):
    rles = []
    for mask in masks:
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        rles.append({"size": rle["size"], "counts": rle["counts"].decode("ascii")})
    return AutomaticMasks(rles, list(np.linspace(0.9, 0.5, len(rles))), (12, 20))


def box(top, left, bottom, right):
    mask = np.zeros((12, 20), bool)
    mask[top:bottom, left:right] = True
    return mask


LEFT, ALMOST_LEFT, RIGHT = box(0, 0, 12, 10), box(0, 0, 11, 10), box(0, 10, 12, 20)
INSIDE_LEFT = box(3, 2, 9, 8)


def asked(k=None, height=12, width=20):
    hint = KHint() if k is None else KHint("fixed", k)
    return {"height": height, "width": width, "k_hint": hint}


def answer(model, found, k=None, height=12, width=20):
    output = model.answer(found, asked(k, height, width))
    scores, descriptions = check_output(output, (height, width))
    return output, scores_to_label_map(scores), descriptions


def test_duplicates_are_left_out_and_the_best_answer(model):
    found = automatic(LEFT, ALMOST_LEFT, RIGHT, INSIDE_LEFT)
    output, labels, descriptions = answer(model, found, k=2)
    assert (set(labels[LEFT]), set(labels[RIGHT])) == ({1}, {2})
    assert descriptions == ["", ""]
    assert output["status"] == "ok"
    assert output["all_masks"] == found.rles  # all of them: they are scored besides
    _, labels, _ = answer(model, found, k=1)
    assert (labels == LEFT).all()
    _, labels, descriptions = answer(model, found)
    assert len(descriptions) == 3


def test_smaller_regions_lie_on_top(model):
    found = automatic(LEFT, INSIDE_LEFT, RIGHT)
    _, labels, _ = answer(model, found)
    assert ((labels == 1) == INSIDE_LEFT).all()
    assert ((labels == 2) == (LEFT & ~INSIDE_LEFT)).all()
    better = TextureSam(model=model.sam2, settings=TextureSamSettings(smallest_on_top=False))
    _, labels, descriptions = answer(better, found)
    assert ((labels == 1) == LEFT).all()
    assert len(descriptions) == 3  # the one that vanished counts in K


def test_the_number_of_regions_is_capped_or_filled_up(model):
    strips = automatic(*(box(0, 2 * i, 12, 2 * i + 2) for i in range(10)))
    assert len(answer(model, strips)[2]) == 6
    assert len(answer(model, strips, k=8)[2]) == 8
    two = TextureSam(model=model.sam2, max_regions=2)
    assert len(answer(two, strips)[2]) == 2
    output, labels, descriptions = answer(model, automatic(LEFT), k=3)
    assert len(descriptions) == 3
    assert (labels == LEFT).all()
    assert output["status"] == "ok"


def test_no_mask_at_all(model):
    output, labels, descriptions = answer(model, automatic())
    assert (descriptions, output["status"], output["all_masks"]) == ([], "no_region", [])
    assert (labels == 0).all()
    output, labels, descriptions = answer(model, automatic(), k=2)
    assert (descriptions, output["status"]) == (["", ""], "no_region")
    assert (labels == 0).all()


@pytest.mark.parametrize("size", [(6, 10), (24, 40), (7, 33)])
def test_masks_of_another_size_are_resized_as_scores(model, size):
    _, labels, _ = answer(model, automatic(LEFT, RIGHT), 2, *size)
    assert labels.shape == size
    half = size[1] // 2
    assert set(labels[:, :half].ravel()) == {1}
    assert set(labels[:, half + size[1] % 2 :].ravel()) == {2}


def test_one_set_of_masks_answers_every_question(model):
    image = torch.randint(0, 256, (3, 40, 64), dtype=torch.uint8)
    sample = {"image": image, **asked(2, 40, 64)}
    encoding = model.encode_image(sample)
    direct, shared = model([sample, {**sample, "encoding": encoding}])
    assert torch.equal(direct["sem_seg"], shared["sem_seg"])
    assert direct["all_masks"] == shared["all_masks"] == encoding.rles
    assert len(encoding.rles) == 16
    assert direct["sem_seg"].shape == (3, 40, 64)


def test_transformers_own_default_is_undone():
    sam2 = build_sam2("", "tiny", 0)
    assert sam2.mask_decoder.dynamic_multimask_via_stability
    TextureSam(model=sam2)
    assert not sam2.mask_decoder.dynamic_multimask_via_stability
    TextureSam(model=sam2, settings=TextureSamSettings(dynamic_multimask=True))
    assert sam2.mask_decoder.dynamic_multimask_via_stability


def test_config_reaches_the_settings():
    keys = {
        "POINTS_PER_SIDE": 3,
        "POINTS_PER_BATCH": 2,
        "PRED_IOU_THRESH": 0.1,
        "STABILITY_SCORE_THRESH": 0.3,
        "STABILITY_SCORE_OFFSET": 0.5,
        "BOX_NMS_THRESH": 0.6,
        "CROP_N_LAYERS": 1,
        "MULTIMASK_OUTPUT": True,
    }
    words = [str(w) for k, v in keys.items() for w in (f"MODEL.TEXTURE_SAM.{k}", v)]
    words += ["MODEL.TEXTURE_SAM.DUPLICATE_IOU", "0.7", "MODEL.MAX_REGIONS", "3"]
    words += ["MODEL.TEXTURE_SAM.SMALLEST_ON_TOP", "False"]
    built = build_model(make_config(TINY, [*words, "MODEL.DEVICE", "cpu"]))
    assert {k: getattr(built.settings, k.lower()) for k in keys} == keys
    assert (built.settings.duplicate_iou, built.max_regions) == (0.7, 3)
    assert built.settings.smallest_on_top is False
    published = make_config(REPO / "configs/baselines/texture_sam.yaml").MODEL.TEXTURE_SAM
    assert (published.CONFIG, published.POINTS_PER_SIDE) == ("sam2.1_hiera_small", 64)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda: {"settings": TextureSamSettings(duplicate_iou=2.0)}, "TEXTURE_SAM.DUPLICATE_IOU"),
        (lambda: {"max_regions": 0}, "MAX_REGIONS"),
    ],
)
def test_settings_without_sense_are_refused_by_key(model, change, key):
    with pytest.raises(ConfigError, match=re.escape(f"MODEL.{key}")):
        TextureSam(model=model.sam2, **change())


def test_predictor(model):
    predictor = TexturePredictor(model, max_score_pixels=500)
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    predictor.set_image(image)
    for count in (1, 3):
        result = predictor.predict(count=count)
        assert result.label_map.shape == (40, 64)
        assert result.num_regions == count


def test_evaluation_as_a_user_runs_it(tmp_path):
    command = [sys.executable, str(REPO / "tools/train_net.py"), "--config-file", str(TINY)]
    command += ["--eval-only", "OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu"]
    command += ["TEST.BOOTSTRAP_SAMPLES", "10"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    folder = tmp_path / "inference/samples"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["n_ok"] == summary["n_total"] > 0
    assert summary["masks_per_image"] == 16
    assert 0 < summary["touching_IoU"] < 1
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert all(len(record["touched_regions"]) >= 2 for record in lines[1:])
    assert "all_masks" not in lines[1]
    assert "touching_IoU" in done.stdout + done.stderr
