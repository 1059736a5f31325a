"""Resizing and cropping of images and label maps, as numpy arrays.

One method for each: images through Pillow's bilinear filter (antialiased when shrinking), label
maps by the nearest pixel centre. Both put pixel centres at half-integers, so they stay aligned.
"""

import numpy as np
from PIL import Image

from detecture.config.sections.images import MicroCropSettings


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch an image, uint8 (H,W,3), to (h,w,3), `size` = (h, w), whatever its aspect."""
    height, width = size
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch a label map, any dtype (H,W), to (h,w), `size` = (h, w), by the nearest pixel."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for old, new in zip(labels.shape, size, strict=True)
    )
    return labels[rows[:, None], columns]


def keep_survivors(
    labels: np.ndarray,
    descriptions: list[str],
    min_share: float = 0.0,
    masks: np.ndarray | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Leave out regions that are too small, and number the others 1..n in order.

    Args:
        labels: integers (H,W): 0 is the dustbin, i belongs to `descriptions[i - 1]`.
        descriptions: one text per region.
        min_share: least share of all pixels; a region without any pixel never survives.
        masks: bool (M,H,W), the own mask of each of the M regions; its pixels count even if they
            belong to another region in `labels`; None: the pixels in `labels` count.

    Returns:
        int64 (H,W), with the pixels of left-out regions set to 0, and the survivors' descriptions.
    """
    if masks is None:
        counts = np.bincount(labels.ravel(), minlength=len(descriptions) + 1)[1:]
    else:
        counts = np.count_nonzero(masks, axis=(1, 2))
    least = max(1.0, min_share * labels.size)
    survivors = [i for i in range(1, len(descriptions) + 1) if counts[i - 1] >= least]
    new_number = np.zeros(max(len(descriptions), int(labels.max(initial=0))) + 1, np.int64)
    new_number[survivors] = np.arange(1, len(survivors) + 1)
    return new_number[labels], [descriptions[i - 1] for i in survivors]


def micro_crop(
    settings: MicroCropSettings,
    image: np.ndarray,
    labels: np.ndarray,
    descriptions: list[str],
    random: np.random.Generator,
    masks: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Macro-to-micro crop: sometimes train on a magnified square piece of the image.

    The published recipe: with p = 0.35 a crop with a side of 300 to 600 of 1008 pixels, kept only
    if at least two regions survive, for which one pixel is enough there; the default `min_share` is
    higher, so that a sliver of a few pixels is not asked for by name.

    Args:
        settings: a crop is tried once; if it is not kept, the whole image is used.
        image: uint8 (S,S,3).
        labels: int64 (S,S), 0 the dustbin, i the region of `descriptions[i - 1]`.
        descriptions: one text per region.
        random: decides.
        masks: bool (M,S,S), see `keep_survivors`.

    Returns:
        The three, cropped and stretched back to the same shapes, with survivors numbered 1..n in
        order; or unchanged.
    """
    if random.random() >= settings.prob:
        return image, labels, descriptions
    size = labels.shape[0]
    least, greatest = (max(1, round(share * size)) for share in settings.side)
    side = int(random.integers(least, greatest + 1))
    top, left = (int(random.integers(0, size - side + 1)) for _ in range(2))
    window = (slice(top, top + side), slice(left, left + side))
    own = None if masks is None else masks[:, window[0], window[1]]
    cropped, survivors = keep_survivors(labels[window], descriptions, settings.min_share, own)
    if len(survivors) < settings.min_regions:
        return image, labels, descriptions
    return (
        resize_image(np.ascontiguousarray(image[window]), (size, size)),
        resize_labels(cropped, (size, size)),
        survivors,
    )
