"""The standard output of every method, built from what classical methods have: a label map."""

from typing import Any

import numpy as np
import torch


def output_from_labels(
    labels: np.ndarray, num_textures: int, dustbin_logit: float
) -> dict[str, Any]:
    """Standard output of a method that decides hard.

    Args:
        labels: (H,W) integer, 0..K-1: the texture of each pixel.
        num_textures: K. Textures that no pixel has are empty regions; they count in K.
        dustbin_logit: score of the dustbin; no pixel goes to it.

    Returns:
        `sem_seg`: (K+1,H,W) float32 whose argmax is `labels`; `descriptions`: K empty strings
        (the method has no words); `status`: `"ok"`.
    """
    index_1HW = torch.from_numpy(np.array(labels, dtype=np.int64))[None]
    # Textures that do not win are level with the dustbin, not below it: where several regions meet,
    # resizing mixes their scores, and the mixture must not fall to the dustbin.
    # One, or what single precision can still tell apart.
    step = max(1.0, abs(dustbin_logit) * 1e-3)
    scores = torch.full((num_textures + 1, *labels.shape), float(dustbin_logit))
    scores[:-1].scatter_(0, index_1HW, dustbin_logit + step)
    return {"sem_seg": scores, "descriptions": [""] * num_textures, "status": "ok"}
