"""Proof that the parts work together: methods find the regions of an image made here.

One method has no weights; the other is the shipped model, which runs when none is named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from detecture.doctor.finding import Finding
from detecture.errors import counted

if TYPE_CHECKING:
    import numpy as np

_METHOD = "TextureClusters"
_SIZE = 96
_LEAST_IOU = 0.9


def check_method() -> Iterator[Finding]:
    """Run a method without weights, from its config to the score of its label map."""
    import numpy as np
    import torch

    from detecture.config import make_config
    from detecture.data import KHint
    from detecture.evaluation.label_map import scores_to_label_map
    from detecture.modeling import build_model

    start = time.perf_counter()
    grey, is_left = _sample()
    sample = {
        "image": torch.from_numpy(np.stack([grey] * 3)),
        "file_name": "",
        "image_id": "proof",
        "height": _SIZE,
        "width": _SIZE,
        "k_hint": KHint("fixed", 2),
    }
    cfg = make_config(None, ["MODEL.META_ARCHITECTURE", _METHOD, "MODEL.DEVICE", "cpu"])
    with torch.inference_mode():
        output = build_model(cfg).eval()([sample])[0]
    label_map = scores_to_label_map(output["sem_seg"])
    score = _score(label_map, len(output["descriptions"]), is_left)
    text = f"{_METHOD} on a generated image: mIoU {score:.3f}, {_seconds(start)}"
    if score < _LEAST_IOU:
        remedy = "numbers are computed wrongly here: install numpy, scipy and scikit-learn again"
        yield Finding("proof", "problem", f"{text}, at least {_LEAST_IOU} is due", remedy)
    else:
        yield Finding("proof", "ok", text)


def check_shipped_model() -> Iterator[Finding]:
    """Run the shipped model, as `TexturePredictor.from_config()` builds it."""
    import numpy as np

    from detecture.engine import TexturePredictor

    name = "shipped model"
    start = time.perf_counter()
    predictor = TexturePredictor.from_config()
    built = _seconds(start)
    grey, is_left = _sample()
    start = time.perf_counter()
    result = predictor(np.stack([grey] * 3, axis=-1), count=2)
    took = _seconds(start)
    score = _score(result.label_map, result.num_regions, is_left)
    text = (
        f"{type(predictor.model).__name__} on an image of {_SIZE} x {_SIZE} pixels: "
        f"{counted(result.num_regions, 'region')}, mIoU {score:.3f}, in {took} (loaded in {built})"
    )
    if score < _LEAST_IOU:
        yield Finding(
            name,
            "problem",
            f"{text}; at least {_LEAST_IOU} is due",
            "numbers are computed wrongly here: install torch, numpy and scipy again",
        )
    elif not all(result.descriptions):
        yield Finding(
            name,
            "problem",
            f"{text}; a region has no description: {result.descriptions}",
            "install again what describes: python -m pip install -e .",
        )
    else:
        yield Finding(name, "ok", f'{text}: "{result.descriptions[0]}"')


def _sample() -> tuple[np.ndarray, np.ndarray]:
    """A grey image, uint8 (H,W), and a mask of its left half, bool (H,W).

    Left half: upright stripes; right half: dark noise.
    """
    import numpy as np

    random = np.random.default_rng(0)
    stripes = np.broadcast_to(np.arange(_SIZE) // 3 % 2 * 150 + 80, (_SIZE, _SIZE))
    noise = random.integers(20, 90, (_SIZE, _SIZE))
    is_left = np.broadcast_to(np.arange(_SIZE) < _SIZE // 2, (_SIZE, _SIZE))
    return np.where(is_left, stripes, noise).astype(np.uint8), is_left


def _score(label_map: np.ndarray, count: int, is_left: np.ndarray) -> float:
    """Matched mIoU of a label map (H,W) with that many regions; `is_left` is bool (H,W)."""
    import numpy as np

    from detecture.evaluation.metrics import score_label_map

    matched: float = score_label_map(label_map, count, np.stack([is_left, ~is_left])).matched_iou
    return matched


def _seconds(start: float) -> str:
    return f"{time.perf_counter() - start:.1f} s"
