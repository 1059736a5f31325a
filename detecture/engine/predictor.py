"""Images in, regions out: the Python interface.

    predictor = TexturePredictor.from_config()
    result = predictor("image.jpg")            # or a PIL image, an array, a tensor, a list
    result.save("output")

Many images, where one failure does not stop the others:

    for result in predictor.stream(paths):
        if isinstance(result, TextureResult):
            result.save("output")

Several questions about one image share its encoding:

    predictor.set_image("image.jpg")
    two, three = predictor.predict(count=2), predictor.predict(count=3)
    coarser = predictor.predict(granularity=-0.5)  # of the model's own proposals
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from detecture.checkpoint.shipped import DEFAULT_CONFIG
from detecture.config import make_config
from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.images import InputSettings
from detecture.d2 import CfgNode
from detecture.data.k_hint import KHint, require_count
from detecture.engine.evaluate import load_model, require_choice
from detecture.engine.prediction import FailedImage, ImageSource, Predictor, each_of
from detecture.engine.result import TextureResult
from detecture.errors import ConfigError, DetectureError
from detecture.evaluation.label_map import check_beliefs, check_output, scores_to_label_map
from detecture.modeling.grouping.proposals import require_granularity
from detecture.modeling.meta_arch.protocol import SemanticModel

_ROWS_IN_CHUNK = 256


class TexturePredictor(Predictor[TextureResult]):
    """Runs a registered method on images of any kind and size."""

    remedy = "leave it out, or try another method or number of regions"

    def __init__(
        self,
        model: nn.Module,
        *,
        max_pixels: int = InputSettings.max_pixels,
        bands: Sequence[int] = InputSettings.bands,
        max_score_pixels: int = EvaluationSettings.max_score_pixels,
        count: int | None = None,
        granularity: float = EvaluationSettings.granularity,
    ) -> None:
        """Wrap a model.

        Args:
            model: a texture model: maps mapped dicts to standard outputs.
            max_pixels: larger images are refused before they are decoded.
            bands: which are red, green and blue, see `detecture.data.image_io.read_image`.
            max_score_pixels: larger images get their scores at about this many pixels, and the
                scores are upsampled in strips: memory then grows with one label map, not with K of
                them.
            count: number of regions where a call does not give one; None: unknown.
            granularity: where neither a call nor `count` says anything, see `__call__`.

        Raises:
            ConfigError: it is a semantic model, `bands` are not one or three numbers from 1 on, or
                `count` is not 1 to `MOST_REGIONS`, or the granularity is not 0 and the model has no
                choice of them.
        """
        if isinstance(model, SemanticModel):
            raise ConfigError(
                f"{type(model).__name__} is asked for classes by name, and finds no regions by "
                "itself: use detecture.SemanticPredictor"
            )
        super().__init__(model, max_pixels, bands)
        self.max_score_pixels = max_score_pixels
        self.count = None if count is None else require_count("count", count)
        self.granularity = require_granularity(granularity)
        if self.granularity:
            require_choice(model, "granularity")

    @classmethod
    def from_config(
        cls, config: str | Path | CfgNode | None = None, overrides: Sequence[str] = ()
    ) -> "TexturePredictor":
        """Build the method of a config and load its weights.

        Args:
            config: yaml file, finished config, or None for the shipped method.
            overrides: alternating keys and values, as on a command line.

        Raises:
            ConfigError, CheckpointError: see `make_config` and `load_model`.
        """
        cfg = finished_config(config, overrides)
        return cls.of(load_model(cfg), cfg)

    @classmethod
    def of(cls, model: nn.Module, cfg: CfgNode) -> "TexturePredictor":
        """Predictor for a model of that config that is already built."""
        return cls(
            model,
            max_pixels=cfg.INPUT.MAX_PIXELS,
            bands=cfg.INPUT.BANDS,
            max_score_pixels=cfg.TEST.MAX_SCORE_PIXELS,
            # A user's own image has no regime and no ground truth: only a number counts.
            count=int(cfg.TEST.COUNT) if cfg.TEST.COUNT.isdigit() else None,
            granularity=cfg.TEST.GRANULARITY,
        )

    def sibling(self, max_pixels: int) -> "TexturePredictor":
        """Another predictor with the same model and its own image."""
        return TexturePredictor(
            self.model,
            max_pixels=max_pixels,
            bands=self.bands,
            max_score_pixels=self.max_score_pixels,
            granularity=self.granularity,
        )

    def __call__(
        self,
        images: ImageSource | Iterable[ImageSource],
        count: int | None = None,
        batch_size: int = 8,
        granularity: float | None = None,
    ) -> Any:
        """Predict.

        Args:
            images: one image, or several, see `ImageSource`. Images without a path are named
                `image_0`, `image_1`, .., counted over all calls.
            count: number of regions, if it is known.
            batch_size: images that go through the model at a time.
            granularity: where the number is not known: from -1 (coarsest) over 0 (the model's own
                choice) to 1 (finest); None: as TEST.GRANULARITY says.

        Returns:
            A `TextureResult`, or a list of them.

        Raises:
            ImageError: the image cannot be read; the message names it.
            PredictionError: the method failed on the image.
            FailedImages: some of several images failed. All the others were predicted first; their
                results are in its `results`. (It is an `ImageError`.)
            DetectureError: `count` is not 1 to `MOST_REGIONS`, `granularity` is out of its range,
                both are given, or the method has no choice of granularities.
        """
        return self._call(images, self._question(count, granularity), batch_size)

    def stream(
        self,
        images: ImageSource | Iterable[ImageSource],
        count: int | None = None,
        batch_size: int = 8,
        granularity: float | None = None,
    ) -> Iterator[TextureResult | FailedImage]:
        """Predict one image after the other; a failure does not stop the rest.

        Args:
            images: see `__call__`; read as needed, `batch_size` of them at a time.
            count: number of regions, if known.
            batch_size: how many images go through the model at a time.
            granularity: see `__call__`.

        Returns:
            Iterator over the outcome of each image, in order.

        Raises:
            DetectureError: as `__call__` for the question.
        """
        return self._stream(each_of(images), self._question(count, granularity), batch_size)

    def predict(self, count: int | None = None, granularity: float | None = None) -> TextureResult:
        """Predict the regions of the image that was set.

        Args:
            count: number of regions, if known.
            granularity: see `__call__`; another one costs no new encoding.

        Raises:
            PredictionError: the method failed on the image.
            DetectureError: no image was set, or as `__call__` for the question.
        """
        return self._predict_set(self._question(count, granularity))

    def _question(self, count: int | None, granularity: float | None = None) -> dict[str, Any]:
        count = self.count if count is None else count
        if count is not None:
            count = require_count("count", count)
        hint = {"k_hint": KHint() if count is None else KHint("fixed", count)}
        if granularity is None:
            granularity = self.granularity
            return hint if count is not None else {**hint, "granularity": granularity}
        granularity = require_granularity(granularity)
        if granularity:
            require_choice(self.model, "granularity")
            if count is not None:
                raise DetectureError(
                    f"granularity {granularity:g} asks the method to choose the number of regions, "
                    f"and count (or TEST.COUNT) tells it that there are {count}: give one of them"
                )
        return {**hint, "granularity": granularity}

    def _asked_size(self, height: int, width: int) -> tuple[int, int]:
        shrink = min(1.0, math.sqrt(self.max_score_pixels / (height * width)))
        return max(1, round(height * shrink)), max(1, round(width * shrink))

    def _result(self, sample: dict[str, Any], output: dict[str, Any]) -> TextureResult:
        scores, descriptions = check_output(output, (sample["height"], sample["width"]))
        alternatives, confidence = check_beliefs(output, len(descriptions))
        image = sample["image"].permute(1, 2, 0).numpy()
        return TextureResult(
            image=image,
            label_map=label_map_at(scores, image.shape[0], image.shape[1]),
            descriptions=descriptions,
            status=output.get("status", "ok"),
            name=sample["file_name"],
            source=sample["source"],
            alternatives=alternatives,
            confidence=confidence,
        )


def finished_config(config: str | Path | CfgNode | None, overrides: Sequence[str]) -> CfgNode:
    """The config of a yaml file, a finished config, or that of the shipped method (None).

    Raises:
        ConfigError: see `make_config`.
    """
    if isinstance(config, CfgNode):
        return config
    return make_config(DEFAULT_CONFIG if config is None else config, overrides)


def label_map_at(scores: torch.Tensor, height: int, width: int) -> np.ndarray:
    """Label map at another size: bilinear upsampling of the scores, then argmax, strip by strip.

    Args:
        scores: (K+1,h,w) float, the dustbin last.
        height: H of the result, in pixels.
        width: W of the result, in pixels.

    Returns:
        Labels (H,W), int32, as if the whole of `scores` had been upsampled at once
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
