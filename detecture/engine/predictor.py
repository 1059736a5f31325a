"""Images in, regions out: the Python interface.

    predictor = TexturePredictor.from_config()
    result = predictor("image.jpg")            # or a PIL image, an array, a tensor, a list
    result.save("output")

Several questions about one image share its encoding:

    predictor.set_image("image.jpg")
    two, three = predictor.predict(count=2), predictor.predict(count=3)
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from detecture.checkpoint.shipped import DEFAULT_CONFIG
from detecture.config import make_config
from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.images import InputSettings
from detecture.d2 import CfgNode
from detecture.data import KHint
from detecture.data.image_io import as_image
from detecture.engine.evaluate import load_model
from detecture.engine.result import TextureResult
from detecture.errors import DetectureError
from detecture.evaluation.label_map import check_output, scores_to_label_map
from detecture.modeling.meta_arch.protocol import EncodesImages

ImageSource = str | Path | Image.Image | np.ndarray | torch.Tensor

_ROWS_IN_CHUNK = 256


class TexturePredictor:
    """Runs a registered method on images of any kind and size."""

    def __init__(
        self,
        model: nn.Module,
        *,
        max_pixels: int = InputSettings.max_pixels,
        max_score_pixels: int = EvaluationSettings.max_score_pixels,
        count: int | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: maps mapped dicts to standard outputs. If it has `encode_image(sample)`, that
                runs once per image, and its value is in the mapped dict under `encoding`.
            max_pixels: larger images are refused before they are decoded.
            max_score_pixels: larger images get their scores at about so many pixels, and these
                are upsampled in strips: memory then grows with the label map, not with K of them.
            count: number of regions where a call does not give one; None: unknown.
        """
        self.model = model.eval()
        self.max_pixels = max_pixels
        self.max_score_pixels = max_score_pixels
        self.count = count
        self._sample: dict[str, Any] | None = None

    @classmethod
    def from_config(
        cls, config: str | Path | CfgNode | None = None, overrides: Sequence[str] = ()
    ) -> "TexturePredictor":
        """Build the method of a config and load its weights.

        Args:
            config: yaml file, finished config, or None for the method that ships.
            overrides: alternating keys and values, as on a command line.

        Raises:
            ConfigError, CheckpointError: see `make_config` and `load_model`.
        """
        if config is None:
            config = DEFAULT_CONFIG
        cfg = config if isinstance(config, CfgNode) else make_config(config, overrides)
        return cls(
            load_model(cfg),
            max_pixels=cfg.INPUT.MAX_PIXELS,
            max_score_pixels=cfg.TEST.MAX_SCORE_PIXELS,
            # An image of one's own has no regime and no ground truth: only a number counts.
            count=int(cfg.TEST.COUNT) if cfg.TEST.COUNT.isdigit() else None,
        )

    def __call__(
        self,
        images: ImageSource | Iterable[ImageSource],
        count: int | None = None,
        batch_size: int = 8,
    ) -> Any:
        """Predict.

        Args:
            images: one image, or several: paths, PIL images, arrays ((H,W), (H,W,3) or
                (H,W,4): uint8, uint16 or float in 0..1) or tensors (the same, channels first).
            count: number of regions, if it is known.
            batch_size: images that go through the model at a time.

        Returns:
            A `TextureResult`, or a list of them.

        Raises:
            ImageError: an image cannot be read; the message names it.
            DetectureError: `count` is not positive.
        """
        several = not isinstance(images, (str, bytes, Image.Image, np.ndarray, torch.Tensor))
        if not several or not isinstance(images, Iterable):
            return self._predict([self._load(images, 0)], count)[0]
        results: list[TextureResult] = []
        batch: list[dict[str, Any]] = []
        for number, image in enumerate(images):
            batch.append(self._load(image, number))
            if len(batch) == max(batch_size, 1):
                results += self._predict(batch, count)
                batch = []
        return results + (self._predict(batch, count) if batch else [])

    def set_image(self, image: ImageSource) -> None:
        """Read and encode an image; `predict` then answers any number of questions about it."""
        self._sample = self._load(image, 0)
        if isinstance(self.model, EncodesImages):
            with torch.inference_mode():
                self._sample["encoding"] = self.model.encode_image(self._sample)

    def predict(self, count: int | None = None) -> TextureResult:
        """Predict the regions of the image that was set.

        Args:
            count: number of regions, if it is known.

        Raises:
            DetectureError: no image was set, or `count` is not positive.
        """
        if self._sample is None:
            raise DetectureError("no image is set; call set_image(image) first")
        return self._predict([self._sample], count)[0]

    def _load(self, source: Any, number: int) -> dict[str, Any]:
        name = str(source) if isinstance(source, (str, Path)) else f"image_{number}"
        image = as_image(source, self.max_pixels, name)
        height, width = image.shape[:2]
        shrink = min(1.0, math.sqrt(self.max_score_pixels / (height * width)))
        return {
            "image": torch.from_numpy(image).permute(2, 0, 1),
            "file_name": name,
            "image_id": name,
            "height": max(1, round(height * shrink)),
            "width": max(1, round(width * shrink)),
        }

    def _predict(self, samples: list[dict[str, Any]], count: int | None) -> list[TextureResult]:
        count = self.count if count is None else count
        whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
        if count is not None and (not whole or count < 1):
            raise DetectureError(f"count is the number of regions, 1 or more, got {count!r}")
        hint = KHint() if count is None else KHint("fixed", int(count))
        batch = [dict(sample, k_hint=hint) for sample in samples]
        with torch.inference_mode():
            outputs = self.model(batch)
            return [_result(*pair) for pair in zip(batch, outputs, strict=True)]


def _result(sample: dict[str, Any], output: dict[str, Any]) -> TextureResult:
    scores, descriptions = check_output(output, (sample["height"], sample["width"]))
    image = sample["image"].permute(1, 2, 0).numpy()
    return TextureResult(
        image=image,
        label_map=label_map_at(scores, image.shape[0], image.shape[1]),
        descriptions=descriptions,
        status=output.get("status", "ok"),
        name=sample["file_name"],
    )


def label_map_at(scores: torch.Tensor, height: int, width: int) -> np.ndarray:
    """Label map at another size: bilinear upsampling of the scores, then argmax, strip by strip.

    Args:
        scores: (K+1,h,w) float, the dustbin last.
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        (height,width) int32 labels, as if the whole of `scores` had been upsampled at once
        (half-pixel centres, edges repeated).
    """
    if tuple(scores.shape[1:]) == (height, width):
        return scores_to_label_map(scores)
    label_map = np.empty((height, width), dtype=np.int32)
    scale = scores.shape[1] / height
    for top in range(0, height, _ROWS_IN_CHUNK):
        rows = torch.arange(top, min(top + _ROWS_IN_CHUNK, height), device=scores.device)
        source = ((rows + 0.5) * scale - 0.5).clamp(min=0.0)
        above = source.floor().long().clamp(max=scores.shape[1] - 1)
        below = (above + 1).clamp(max=scores.shape[1] - 1)
        weight = (source - above).to(scores.dtype)[None, :, None]
        strip = scores[:, above] * (1 - weight) + scores[:, below] * weight
        strip = functional.interpolate(
            strip[None], size=(len(rows), width), mode="bilinear", align_corners=False
        )[0]
        label_map[top : top + len(rows)] = scores_to_label_map(strip)
    return label_map
