"""The proof that the parts work together: a method finds the regions of an image made here."""

from __future__ import annotations

import time
from collections.abc import Iterator

from detecture.doctor.finding import Finding

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
    from detecture.evaluation.metrics import score_label_map
    from detecture.modeling import build_model

    start = time.perf_counter()
    # Left half: upright stripes; right half: dark noise.
    random = np.random.default_rng(0)
    stripes = np.broadcast_to(np.arange(_SIZE) // 3 % 2 * 150 + 80, (_SIZE, _SIZE))
    noise = random.integers(20, 90, (_SIZE, _SIZE))
    is_left = np.broadcast_to(np.arange(_SIZE) < _SIZE // 2, (_SIZE, _SIZE))
    grey = np.where(is_left, stripes, noise).astype(np.uint8)
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
    score = score_label_map(label_map, len(output["descriptions"]), np.stack([is_left, ~is_left]))
    seconds = time.perf_counter() - start
    text = f"{_METHOD} on a generated image: mIoU {score.matched_iou:.3f}, {seconds:.1f} s"
    if score.matched_iou < _LEAST_IOU:
        remedy = "numbers are computed wrongly here: install numpy, scipy and scikit-learn again"
        yield Finding("proof", "problem", f"{text}, at least {_LEAST_IOU} is due", remedy)
    else:
        yield Finding("proof", "ok", text)
