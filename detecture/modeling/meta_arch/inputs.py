"""What a plain Detectron2 script calls a model with, made into the mapped dicts of this project."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from detecture.data.k_hint import KHint

Forward = TypeVar("Forward", bound=Callable[..., Any])


def takes_plain_inputs(forward: Forward) -> Forward:
    """Decorate a meta-arch's `forward(self, batched_inputs, ..)` to take Detectron2's own inputs.

    Its `DefaultPredictor` gives `image` as float32 in 0..255, `height` and `width`, and nothing
    else: in evaluation such an image becomes uint8, and where no `k_hint` is given nothing is known
    of K. Mapped dicts of this project go through as they are.
    """

    @functools.wraps(forward)
    def wrapped(self: Any, batched_inputs: list[dict[str, Any]], *args: Any, **kwargs: Any) -> Any:
        if not self.training:
            batched_inputs = [_as_mapped(sample) for sample in batched_inputs]
        return forward(self, batched_inputs, *args, **kwargs)

    return wrapped  # type: ignore[return-value]


def _as_mapped(sample: dict[str, Any]) -> dict[str, Any]:
    given, image = {}, sample.get("image")
    if image is not None and image.is_floating_point():
        given["image"] = image.round().clamp(0, 255).to(torch.uint8)
    if "k_hint" not in sample:
        given["k_hint"] = KHint()
    return {**sample, **given} if given else sample
