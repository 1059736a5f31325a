"""What a VLM is shown of a region: the whole image with everything else painted over.

So one ordinary image holds the region's colours and texture, its shape and its place, and the
VLM needs no input of its own for masks.

Legend: M regions, H, W size of the image, S side of the views.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from detecture.modeling.stretch import stretch

SURROUNDINGS = (255, 0, 255)
"""Colour around the region: full magenta, which hardly any surface has. Grey or black would hide
where grey or dark regions end."""


def region_views(image_3HW: Tensor, masks_MHW: Tensor, size: int) -> Tensor:
    """One image for each region.

    Args:
        image_3HW: uint8 RGB.
        masks_MHW: bool, on the same device.
        size: S.

    Returns:
        uint8 (M,3,S,S).

    Raises:
        ValueError: a type or shape is another one.
    """
    return paint_over(*square(image_3HW, masks_MHW, size))


def square(image_3HW: Tensor, masks_MHW: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """An image and its masks at the size of the views: uint8 (3,S,S) and bool (M,S,S).

    Args:
        image_3HW: uint8 RGB.
        masks_MHW: bool, on the same device.
        size: S.

    Raises:
        ValueError: a type or shape is another one.
    """
    if masks_MHW.dtype != torch.bool or masks_MHW.shape[1:] != image_3HW.shape[1:]:
        raise ValueError(
            f"masks must be bool (M,H,W) of the image's size {tuple(image_3HW.shape[1:])}, not "
            f"{masks_MHW.dtype} {tuple(masks_MHW.shape)}"
        )
    (square_3SS,) = stretch([image_3HW], size, image_3HW.device)
    return square_3SS, resize_masks(masks_MHW, size)


def paint_over(square_3SS: Tensor, masks_MSS: Tensor) -> Tensor:
    """The views (M,3,S,S) of a square image; its masks are of its size."""
    around_3 = torch.tensor(SURROUNDINGS, dtype=torch.uint8, device=square_3SS.device)
    return torch.where(masks_MSS[:, None], square_3SS[None], around_3[None, :, None, None])


def resize_masks(masks_MHW: Tensor, size: int) -> Tensor:
    """Masks of another size: bool (M,S,S), where at least half of a pixel belongs to the region.

    After the image, not with it: a resize of the painted image would mix the colour of the
    surroundings into the region. A region that is too thin for any such pixel keeps those that it
    touches.
    """
    if masks_MHW.shape[1:] == (size, size):
        return masks_MHW
    if not len(masks_MHW):
        return masks_MHW.new_zeros((0, size, size))
    # One at a time: all masks of a large image as floats take gigabytes.
    return torch.stack([_resize_mask(mask_HW, size) for mask_HW in masks_MHW])


def _resize_mask(mask_HW: Tensor, size: int) -> Tensor:
    """One mask at another size: bool (S,S), see `resize_masks`."""
    share_SS = F.interpolate(
        mask_HW[None, None].float(), size=(size, size), mode="bilinear", antialias=True
    )[0, 0]
    resized_SS = share_SS >= 0.5
    return resized_SS if bool(resized_SS.any()) else share_SS > 0
