"""What predictors share: images of any kind in, one outcome for each.

Legend: H, W size of an image.
"""

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from detecture.config.sections.images import InputSettings, require_bands
from detecture.data.image_io import as_image
from detecture.data.k_hint import require_room
from detecture.engine.result_files import absolute_path
from detecture.errors import DetectureError, ImageError, PredictionError
from detecture.evaluation.guard import run_each
from detecture.evaluation.label_map import InvalidOutput
from detecture.modeling.meta_arch.protocol import EncodesImages

ImageSource = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray | torch.Tensor
"""Paths, the content of a file (bytes, or a binary stream), PIL images, arrays ((H,W), (H,W,3) or
(H,W,4) of real numbers, see `detecture.data.levels`), tensors (the same, channels first)."""

_SHOWN_CHARACTERS = 300  # of an exception
_SHOWN_FAILURES = 3

Result = TypeVar("Result")


@dataclass(frozen=True)
class FailedImage:
    """An image that has no result.

    Attributes:
        name: of the image, as in a result.
        status: `image_unreadable`, `exception` (of the method) or `invalid_output`, as in records.
        error: the reason, and what to do.
    """

    name: str
    status: str
    error: DetectureError


class FailedImages(ImageError):
    """Some of several images have no result; the results of the others are kept here.

    Attributes:
        results: one for each image, None where it failed.
        failures: the images that failed, in order.
    """

    def __init__(self, outcomes: Sequence[Any]) -> None:
        """Sort what a predictor's `stream` yielded, of which at least one is a failure."""
        self.results = [None if isinstance(one, FailedImage) else one for one in outcomes]
        self.failures = [one for one in outcomes if isinstance(one, FailedImage)]
        shown = [str(failure.error) for failure in self.failures[:_SHOWN_FAILURES]]
        more = len(self.failures) - len(shown)
        super().__init__(
            f"{len(self.failures)} of {len(outcomes)} images failed: {'; '.join(shown)}"
            f"{f'; and {more} more' if more else ''}. The results of the others are the `results` "
            "of this error; predictor.stream(images) gives one after the other"
        )


class Predictor(ABC, Generic[Result]):
    """Reads images, runs a model on them, and turns its answers into results."""

    remedy = "leave it out, or try another method"
    """What to do when the method fails on an image."""

    def __init__(
        self,
        model: nn.Module,
        max_pixels: int = InputSettings.max_pixels,
        bands: Sequence[int] = InputSettings.bands,
    ) -> None:
        """Wrap a model.

        Args:
            model: see `detecture.modeling.meta_arch.protocol`. If it has `encode_image(sample)`,
                `set_image` runs it and puts its value in the mapped dict under `encoding`.
            max_pixels: larger images are refused before decoding.
            bands: which bands are red, green and blue, see `detecture.data.image_io.read_image`.

        Raises:
            ConfigError: `bands` are not one or three numbers from 1 on.
        """
        self.model = model.eval()
        self.max_pixels = max_pixels
        self.bands = require_bands(bands)
        self._sample: dict[str, Any] | None = None
        self._numbers = itertools.count()

    @abstractmethod
    def _result(self, sample: dict[str, Any], output: dict[str, Any]) -> Result:
        """What a model's answer to a mapped dict means."""

    def _asked_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to ask the model for, given those of the image."""
        return height, width

    def set_image(self, image: ImageSource) -> None:
        """Read and encode an image; `predict` then answers any number of questions about it.

        Args:
            image: one image, as in `__call__`.

        Raises:
            ImageError: the image cannot be read.
            PredictionError: the method failed on it.
        """
        self._sample = None  # if this fails, the previous image is not mistaken for this one
        sample = self._load(image, self._name(image))
        if isinstance(self.model, EncodesImages):
            try:
                with torch.inference_mode():
                    sample["encoding"] = self.model.encode_image(sample)
            except Exception as error:
                raise self._prediction_error(sample["file_name"], error) from error
        self._sample = sample

    def _predict_set(self, question: dict[str, Any]) -> Result:
        """Result for the image that was set; `question` goes into its mapped dict."""
        if self._sample is None:
            raise DetectureError("no image is set; call set_image(image) first")
        return _result_of(next(self._predict([self._sample], question)))

    def _call(self, images: Any, question: dict[str, Any], batch_size: int) -> Any:
        """The result of one image, or a list of results of several, any of which may fail."""
        if _is_alone(images):
            return _result_of(next(self._stream(each_of(images), question, 1)))
        outcomes = list(self._stream(each_of(images), question, batch_size))
        if any(isinstance(outcome, FailedImage) for outcome in outcomes):
            raise FailedImages(outcomes)
        return outcomes

    def _stream(
        self, images: Iterator[Any], question: dict[str, Any], batch_size: int
    ) -> Iterator[Result | FailedImage]:
        while batch := list(itertools.islice(images, max(batch_size, 1))):
            loaded = [self._try_to_load(image) for image in batch]
            found = self._predict([one for one in loaded if isinstance(one, dict)], question)
            for one in loaded:
                yield next(found) if isinstance(one, dict) else one

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
        pixels = as_image(image, self.max_pixels, name, self.bands)
        height, width = self._asked_size(*pixels.shape[:2])
        is_file = isinstance(image, (str, os.PathLike))
        return {
            "image": torch.from_numpy(pixels).permute(2, 0, 1),
            "file_name": name,
            "image_id": name,
            "height": height,
            "width": width,
            "source": absolute_path(name) if is_file else "",
        }

    def _predict(
        self, samples: list[dict[str, Any]], question: dict[str, Any]
    ) -> Iterator[Result | FailedImage]:
        batch = [{**sample, **question} for sample in samples]

        def answer(some: list[dict[str, Any]]) -> Any:
            for sample in some:
                require_room(sample)
            with torch.inference_mode():
                return self.model(some)

        for sample, output in zip(batch, run_each(answer, batch), strict=True):
            yield self._outcome(sample, output)

    def _outcome(
        self, sample: dict[str, Any], output: dict[str, Any] | Exception
    ) -> Result | FailedImage:
        name = sample["file_name"]
        try:
            if isinstance(output, Exception):
                raise output
            with torch.inference_mode():
                return self._result(sample, output)
        except Exception as error:  # noqa: BLE001 - such as no memory for a label map of this size
            status = "invalid_output" if isinstance(error, InvalidOutput) else "exception"
            return FailedImage(name, status, self._prediction_error(name, error))

    def _prediction_error(self, name: str, error: Exception) -> PredictionError:
        if isinstance(error, PredictionError):  # says what to do
            return PredictionError(f"{name}: {error}")
        text = f"{type(error).__name__}: {error}"[:_SHOWN_CHARACTERS]
        failure = PredictionError(
            f"{name}: the method failed on this image ({text}); {self.remedy}"
        )
        failure.__cause__ = error
        return failure


def each_of(images: Any) -> Iterator[Any]:
    """Each of several images, or the single image itself, which may be a text or an array."""
    return iter((images,)) if _is_alone(images) else iter(images)


def _is_alone(images: Any) -> bool:
    kinds = (str, bytes, bytearray, Image.Image, np.ndarray, torch.Tensor)
    # A file stream is iterable too, line by line.
    return isinstance(images, kinds) or hasattr(images, "read") or not isinstance(images, Iterable)


def _result_of(outcome: Result | FailedImage) -> Result:
    if isinstance(outcome, FailedImage):
        raise outcome.error from outcome.error.__cause__
    return outcome
