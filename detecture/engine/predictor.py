"""Images in, regions out: the Python interface.

    predictor = TexturePredictor.from_config()
    result = predictor("image.jpg")            # or a PIL image, an array, a tensor, a list
    result.save("output")

Many images, of which one that fails stops no other:

    for result in predictor.stream(paths):
        if isinstance(result, TextureResult):
            result.save("output")

Several questions about one image share its encoding:

    predictor.set_image("image.jpg")
    two, three = predictor.predict(count=2), predictor.predict(count=3)
"""

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
from detecture.engine.result_files import absolute_path
from detecture.errors import DetectureError, ImageError, PredictionError
from detecture.evaluation.guard import run_each
from detecture.evaluation.label_map import InvalidOutput, check_output, scores_to_label_map
from detecture.modeling.meta_arch.protocol import EncodesImages

ImageSource = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor

_ROWS_IN_CHUNK = 256
_SHOWN_CHARACTERS = 300  # of an exception
_SHOWN_FAILURES = 3


@dataclass(frozen=True)
class FailedImage:
    """An image that has no result.

    Attributes:
        name: of the image, as that of a `TextureResult`.
        status: `image_unreadable`, `exception` (of the method) or `invalid_output`, as in records.
        error: says why, and what to do.
    """

    name: str
    status: str
    error: DetectureError


class FailedImages(ImageError):
    """Some of several images have no result; those of the others are here.

    Attributes:
        results: one for each image, None where it failed.
        failures: those that failed, in their order.
    """

    def __init__(self, outcomes: Sequence[TextureResult | FailedImage]) -> None:
        """Sort what `TexturePredictor.stream` gave, at least one of it a failure."""
        self.results = [None if isinstance(one, FailedImage) else one for one in outcomes]
        self.failures = [one for one in outcomes if isinstance(one, FailedImage)]
        shown = [str(failure.error) for failure in self.failures[:_SHOWN_FAILURES]]
        more = len(self.failures) - len(shown)
        super().__init__(
            f"{len(self.failures)} of {len(outcomes)} images failed: {'; '.join(shown)}"
            f"{f'; and {more} more' if more else ''}. The results of the others are the `results` "
            "of this error; predictor.stream(images) gives one after the other"
        )


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
        self._numbers = itertools.count()

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
                What has no path is called `image_0`, `image_1`, .. over all calls.
            count: number of regions, if it is known.
            batch_size: images that go through the model at a time.

        Returns:
            A `TextureResult`, or a list of them.

        Raises:
            ImageError: the image cannot be read; the message names it.
            PredictionError: the method failed on the image.
            FailedImages: some of several images failed. All others were predicted before: their
                results are its `results`. (It is an `ImageError`.)
            DetectureError: `count` is not positive.
        """
        alone = isinstance(images, (str, bytes, Image.Image, np.ndarray, torch.Tensor))
        if alone or not isinstance(images, Iterable):
            return _result_of(next(self._stream(iter((images,)), self._hint(count), 1)))
        outcomes = list(self.stream(images, count, batch_size))
        if any(isinstance(outcome, FailedImage) for outcome in outcomes):
            raise FailedImages(outcomes)
        return outcomes

    def stream(
        self,
        images: Iterable[ImageSource],
        count: int | None = None,
        batch_size: int = 8,
    ) -> Iterator[TextureResult | FailedImage]:
        """Predict one image after the other; one that fails stops no other.

        Args:
            images: see `__call__`; read as they are needed, `batch_size` of them at a time.
            count: number of regions, if it is known.
            batch_size: images that go through the model at a time.

        Returns:
            Iterator over what becomes of each image, in their order.

        Raises:
            DetectureError: `count` is not positive.
        """
        return self._stream(iter(images), self._hint(count), max(batch_size, 1))

    def _stream(
        self, images: Iterator[Any], hint: KHint, batch_size: int
    ) -> Iterator[TextureResult | FailedImage]:
        while batch := list(itertools.islice(images, batch_size)):
            loaded = [self._try_to_load(image) for image in batch]
            found = self._predict([one for one in loaded if isinstance(one, dict)], hint)
            for one in loaded:
                yield next(found) if isinstance(one, dict) else one

    def set_image(self, image: ImageSource) -> None:
        """Read and encode an image; `predict` then answers any number of questions about it.

        Args:
            image: one, as in `__call__`.

        Raises:
            ImageError: the image cannot be read.
            PredictionError: the method failed on it.
        """
        self._sample = None  # where this fails, the one before is not taken for this one
        sample = self._load(image, self._name(image))
        if isinstance(self.model, EncodesImages):
            try:
                with torch.inference_mode():
                    sample["encoding"] = self.model.encode_image(sample)
            except Exception as error:
                raise _prediction_error(sample["file_name"], error) from error
        self._sample = sample

    def predict(self, count: int | None = None) -> TextureResult:
        """Predict the regions of the image that was set.

        Args:
            count: number of regions, if it is known.

        Raises:
            PredictionError: the method failed on the image.
            DetectureError: no image was set, or `count` is not positive.
        """
        if self._sample is None:
            raise DetectureError("no image is set; call set_image(image) first")
        return _result_of(next(self._predict([self._sample], self._hint(count))))

    def _try_to_load(self, image: Any) -> dict[str, Any] | FailedImage:
        name = self._name(image)
        try:
            return self._load(image, name)
        except ImageError as error:
            return FailedImage(name, "image_unreadable", error)

    def _name(self, image: Any) -> str:
        if isinstance(image, (str, os.PathLike)):
            return os.fsdecode(image)
        return f"image_{next(self._numbers)}"

    def _load(self, image: Any, name: str) -> dict[str, Any]:
        pixels = as_image(image, self.max_pixels, name)
        height, width = pixels.shape[:2]
        is_file = isinstance(image, (str, os.PathLike))
        shrink = min(1.0, math.sqrt(self.max_score_pixels / (height * width)))
        return {
            "image": torch.from_numpy(pixels).permute(2, 0, 1),
            "file_name": name,
            "image_id": name,
            "height": max(1, round(height * shrink)),
            "width": max(1, round(width * shrink)),
            "source": absolute_path(name) if is_file else "",
        }

    def _hint(self, count: int | None) -> KHint:
        count = self.count if count is None else count
        whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
        if count is not None and (not whole or count < 1):
            raise DetectureError(f"count is the number of regions, 1 or more, got {count!r}")
        return KHint() if count is None else KHint("fixed", int(count))

    def _predict(
        self, samples: list[dict[str, Any]], hint: KHint
    ) -> Iterator[TextureResult | FailedImage]:
        batch = [dict(sample, k_hint=hint) for sample in samples]

        def answer(some: list[dict[str, Any]]) -> Any:
            with torch.inference_mode():
                return self.model(some)

        for sample, output in zip(batch, run_each(answer, batch), strict=True):
            yield _outcome(sample, output)


def _result_of(outcome: TextureResult | FailedImage) -> TextureResult:
    if isinstance(outcome, FailedImage):
        raise outcome.error from outcome.error.__cause__
    return outcome


def _outcome(
    sample: dict[str, Any], output: dict[str, Any] | Exception
) -> TextureResult | FailedImage:
    name = sample["file_name"]
    try:
        if isinstance(output, Exception):
            raise output
        return _result(sample, output)
    except Exception as error:  # noqa: BLE001 - such as no memory for a label map of this size
        status = "invalid_output" if isinstance(error, InvalidOutput) else "exception"
        return FailedImage(name, status, _prediction_error(name, error))


def _prediction_error(name: str, error: Exception) -> PredictionError:
    text = f"{type(error).__name__}: {error}"[:_SHOWN_CHARACTERS]
    failure = PredictionError(
        f"{name}: the method failed on this image ({text}); leave it out, or try another method or "
        "number of regions"
    )
    failure.__cause__ = error
    return failure


def _result(sample: dict[str, Any], output: dict[str, Any]) -> TextureResult:
    scores, descriptions = check_output(output, (sample["height"], sample["width"]))
    image = sample["image"].permute(1, 2, 0).numpy()
    with torch.inference_mode():
        label_map = label_map_at(scores, image.shape[0], image.shape[1])
    return TextureResult(
        image=image,
        label_map=label_map,
        descriptions=descriptions,
        status=output.get("status", "ok"),
        name=sample["file_name"],
        source=sample["source"],
    )


def label_map_at(scores: torch.Tensor, height: int, width: int) -> np.ndarray:
    """Label map at another size: bilinear upsampling of the scores, then argmax, strip by strip.

    Args:
        scores: (K+1,h,w) float, the dustbin last.
        height: H, of the result, in pixels.
        width: W, of the result, in pixels.

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
