"""Images of any size to squares of one size, in the same way for all parts of a model."""

from collections.abc import Sequence

import torch
from torch import Tensor


def stretch(images: Sequence[Tensor], size: int, device: torch.device) -> Tensor:
    """Resize images without keeping their aspect: bilinear, antialiased, in whole grey levels.

    Args:
        images: B uint8 RGB tensors (3,H,W), on any device.
        size: side of the squares in pixels (S).
        device: that they are put on.

    Returns:
        uint8 (B,3,S,S).

    Raises:
        ValueError: an image has another type or shape.
    """
    # Here, because importing torchvision takes longer than importing torch.
    from torchvision.transforms.v2 import functional as transforms

    squares = []
    for image in images:
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(
                f"an image must be uint8 (3,H,W), not {image.dtype} {tuple(image.shape)}"
            )
        squares.append(transforms.resize(image.to(device), [size, size], antialias=True))
    return torch.stack(squares)
