"""Predictions beside the truth, for tensorboard, in the middle of a training.

Legend: H, W size of an image, h, w size at which it is drawn.
"""

import logging
from itertools import islice

import numpy as np
import torch
from torch import nn

from detecture.d2 import CfgNode, MetadataCatalog
from detecture.data import build_test_loader, load_registered
from detecture.errors import DetectureError
from detecture.evaluation.evaluator import LABEL_MAPS_OF
from detecture.evaluation.guard import GuardedModel
from detecture.visualize import draw_overlay

logger = logging.getLogger(__name__)

_GREATEST_SIDE = 512


def validation_images(cfg: CfgNode, model: nn.Module) -> list[tuple[str, np.ndarray]]:
    """Prediction beside truth for the first samples of the first test set.

    Args:
        cfg: DATASETS.TEST and TEST.VALIDATION_IMAGES.
        model: set to evaluation mode here.

    Returns:
        Names for tensorboard and images, uint8 RGB (3,h,2*w). A sample that fails is left out.
    """
    if not cfg.DATASETS.TEST:
        return []
    name, count = cfg.DATASETS.TEST[0], cfg.TEST.VALIDATION_IMAGES
    label_maps = LABEL_MAPS_OF.get(MetadataCatalog.get(name).evaluator_type)
    if label_maps is None:
        return []
    small = cfg.clone()
    small.defrost()
    small.DATALOADER.NUM_WORKERS = 0
    records = {r["image_id"]: r for r in islice(load_registered(name), count)}
    guarded = GuardedModel(model, count + 1).eval()
    drawn = []
    with torch.no_grad():
        for (sample,) in islice(build_test_loader(small, name), count):
            record = records.get(sample["image_id"])
            (output,) = guarded([sample])
            if record is None or "image" not in sample or "error" in output:
                continue
            try:
                maps = label_maps(cfg, record, sample, output)
            except DetectureError as error:
                logger.warning("no image of %s: %s", sample["image_id"], error)
                continue
            drawn.append((f"{name}/{sample['image_id']}", _side_by_side(sample["image"], maps)))
    return drawn


def _side_by_side(image_3HW: torch.Tensor, maps: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """uint8 (3,h,2*w) of an image, uint8 (3,H,W), and two label maps (H,W)."""
    step = -(-max(maps[1].shape) // _GREATEST_SIDE)
    image = image_3HW.permute(1, 2, 0).numpy()[::step, ::step]
    sides = [draw_overlay(image, labels[::step, ::step]) for labels in maps]
    return np.ascontiguousarray(np.concatenate(sides, axis=1).transpose(2, 0, 1))
