"""SAM 2's automatic masks: a grid of points over an image, one prompt each, and what is kept.

The procedure of Meta's `SAM2AutomaticMaskGenerator`, made of the parts that transformers' pipeline
`mask-generation` is made of. The pipeline itself (transformers 5.23) cannot be used as published:

- it takes no `multimask_output`, and always asks for three masks a point;
- it scales the points by the longer side, as SAM 1 needs it, but `Sam2ImageProcessor` stretches an
  image to a square: on an image that is not square its grid misses a part of the shorter side;
- it suppresses the masks of all crops together; Meta's code those of each crop, then, with smaller
  crops first, those of different crops.

What still differs from Meta's code: a stability equal to its threshold is not kept.

Legend: P points of a batch, N masks, H, W image size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from detecture.config.sections.baselines import TextureSamSettings

if TYPE_CHECKING:
    from transformers import Sam2ImageProcessor, Sam2Model

# Meta's default for masks of different crops.
_CROP_NMS_THRESH = 0.7


@dataclass(frozen=True)
class AutomaticMasks:
    """The masks of one image, best first; none of them is empty, and they may overlap.

    Attributes:
        rles: COCO RLE of each (`size` [H,W], `counts` text): hundreds of masks of a large image
            would not fit otherwise.
        scores: predicted IoU of each.
        size: H, W.
    """

    rles: list[dict[str, Any]]
    scores: list[float]
    size: tuple[int, int]

    def mask(self, index: int) -> Tensor:
        """bool (H,W) mask, best first from 0."""
        return torch.from_numpy(coco_mask.decode(self.rles[index]).astype(np.bool_))


@dataclass
class _Found:
    """Masks under way: RLE with counts as numbers, predicted IoU, boxes in the whole image."""

    rles: list[dict[str, Any]]
    scores_N: Tensor
    boxes_N4: Tensor

    @classmethod
    def joined(cls, parts: "list[_Found]") -> "_Found":
        return cls(
            [rle for part in parts for rle in part.rles],
            torch.cat([part.scores_N for part in parts]),
            torch.cat([part.boxes_N4 for part in parts]),
        )

    def suppressed(self, priority_N: Tensor, iou: float) -> "_Found":
        """Without the masks whose boxes overlap that of one with a higher priority."""
        from torchvision.ops import nms  # only here: it takes seconds, and other methods none of it

        kept = nms(self.boxes_N4, priority_N, iou)
        rles = [self.rles[index] for index in kept.tolist()]
        return _Found(rles, self.scores_N[kept], self.boxes_N4[kept])


@torch.no_grad()
def generate_masks(
    model: "Sam2Model",
    processor: "Sam2ImageProcessor",
    image_3HW: Tensor,
    settings: TextureSamSettings,
) -> AutomaticMasks:
    """All masks of an image.

    Args:
        model: of transformers, in evaluation mode.
        processor: stretches images to the square that the model takes.
        image_3HW: uint8 RGB.
        settings: which masks to keep.
    """
    height, width = image_3HW.shape[1:]
    # Of an image of a few pixels the crops of further layers would be empty.
    layers = min(settings.crop_n_layers, (min(height, width).bit_length() - 1) // 2)
    boxes_C4, _, crops, _ = processor.generate_crop_boxes(
        image_3HW, processor.size["height"], layers, points_per_crop=1
    )
    parts, areas = [], []
    for box_4, crop in zip(boxes_C4, crops, strict=True):
        found = _masks_of_crop(model, processor, crop, box_4, (height, width), settings)
        parts.append(found.suppressed(found.scores_N, settings.box_nms_thresh))
        areas.append(torch.full_like(parts[-1].scores_N, crop.shape[1] * crop.shape[2]))
    found = _Found.joined(parts)
    if len(parts) > 1:
        found = found.suppressed(1.0 / torch.cat(areas), _CROP_NMS_THRESH)
    rles, scores = [], []
    for index in torch.argsort(found.scores_N, descending=True, stable=True).tolist():
        rle = coco_mask.frPyObjects(found.rles[index], height, width)
        if coco_mask.area(rle):
            rles.append({"size": [height, width], "counts": rle["counts"].decode("ascii")})
            scores.append(float(found.scores_N[index]))
    return AutomaticMasks(rles, scores, (height, width))


def _masks_of_crop(
    model: "Sam2Model",
    processor: "Sam2ImageProcessor",
    crop_3HW: Tensor,
    box_4: Tensor,
    size: tuple[int, int],
    settings: TextureSamSettings,
) -> _Found:
    """Masks of one crop (left, top, right, bottom) that pass the thresholds, batch by batch."""
    pixels = processor(
        images=[crop_3HW], input_data_format="channels_first", return_tensors="pt"
    ).pixel_values
    embeddings = model.get_image_embeddings(pixels.to(model.device, model.dtype))
    side = processor.size["height"]
    parts = []
    for points_P2 in (point_grid(settings.points_per_side) * side).split(settings.points_per_batch):
        outputs = model(
            image_embeddings=embeddings,
            input_points=points_P2[None, :, None].to(model.device),
            input_labels=torch.ones((1, len(points_P2), 1), dtype=torch.int64, device=model.device),
            multimask_output=settings.multimask_output,
        )
        (logits,) = processor.post_process_masks(
            outputs.pred_masks, [tuple(crop_3HW.shape[1:])], binarize=False
        )
        rles, scores_N, boxes_N4 = processor.filter_masks(
            logits,
            outputs.iou_scores[0],
            size,
            box_4.to(model.device),
            settings.pred_iou_thresh,
            settings.stability_score_thresh,
            stability_score_offset=settings.stability_score_offset,
        )
        parts.append(_Found(rles, scores_N.float().cpu(), boxes_N4.float().cpu()))
    return _Found.joined(parts)


def point_grid(points_per_side: int) -> Tensor:
    """Centres of the cells of a square grid over the unit square: (n*n,2), x and y, row by row."""
    centres = (torch.arange(points_per_side, dtype=torch.float32) + 0.5) / points_per_side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)
