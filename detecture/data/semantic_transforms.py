"""Random augmentation of semantic segmentation images, as in CAT-Seg's training.

Legend: H, W size of an image, h, w size of the result.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from detecture.d2 import CfgNode
from detecture.data.semantic_truth import NO_CLASS
from detecture.data.transforms import resize_image, resize_labels
from detecture.errors import ConfigError, brief

PADDING_LEVEL = 128
"""Grey of the padding for an image smaller than the crop."""

_HUES = 256  # of Pillow's HSV
_HUE_SHIFT = 0.1  # 18 of the 180 hues of SSD
_BRIGHTNESS = 32
_SCALES = (0.5, 1.5)


@dataclass(frozen=True)
class SemanticAugmentation:
    """What happens to a training image, in this order; the result has the size of the crop.

    The shorter side is resized to a random length, a random crop is taken, its colours are changed
    (as in SSD: brightness, contrast, saturation, hue), and left and right are exchanged; missing
    parts at the right and bottom are filled with grey and have no class.

    Attributes:
        short_sides: possible lengths of the shorter side.
        is_range: any length between the least and the greatest of them.
        longest_side: the greatest length of the other side.
        crop: height and width.
        colors: change the colours.
        flip: `horizontal`, `vertical` or `none`.
    """

    short_sides: tuple[int, ...]
    is_range: bool
    longest_side: int
    crop: tuple[int, int]
    colors: bool
    flip: str

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "SemanticAugmentation":
        """As INPUT says.

        Raises:
            ConfigError: images would not all have one size.
        """
        given, crop = cfg.INPUT, cfg.INPUT.CROP
        if not crop.ENABLED or crop.TYPE != "absolute" or len(crop.SIZE) != 2 or min(crop.SIZE) < 1:
            raise ConfigError(
                f"INPUT.CROP (ENABLED {crop.ENABLED}, TYPE {brief(crop.TYPE)}, SIZE "
                f"{brief(tuple(crop.SIZE))}): training on label maps needs ENABLED True, TYPE "
                "absolute and a height and a width in pixels, such as (384, 384)"
            )
        return cls(
            short_sides=tuple(given.MIN_SIZE_TRAIN),
            is_range=given.MIN_SIZE_TRAIN_SAMPLING == "range",
            longest_side=given.MAX_SIZE_TRAIN,
            crop=(int(crop.SIZE[0]), int(crop.SIZE[1])),
            colors=given.COLOR_AUG_SSD,
            flip=given.RANDOM_FLIP,
        )

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """An image, uint8 (H,W,3), and its labels, integers (H,W), changed at random.

        Returns:
            uint8 (h,w,3) and int64 (h,w).
        """
        size = self._size(image.shape[0], image.shape[1], random)
        window = self._window(size, random)
        image = resize_image(image, size)[window]
        labels = resize_labels(labels, size)[window]
        if self.colors:
            image = change_colors(image, random)
        if self.flip != "none" and random.random() < 0.5:
            axis = 1 if self.flip == "horizontal" else 0
            image, labels = np.flip(image, axis), np.flip(labels, axis)
        missing = [(0, due - side) for due, side in zip(self.crop, labels.shape, strict=True)]
        image = np.pad(image, [*missing, (0, 0)], constant_values=PADDING_LEVEL)
        labels = np.pad(labels, missing, constant_values=NO_CLASS)
        return np.ascontiguousarray(image), np.ascontiguousarray(labels, dtype=np.int64)

    def _size(self, height: int, width: int, random: np.random.Generator) -> tuple[int, int]:
        if self.is_range:
            side = int(random.integers(min(self.short_sides), max(self.short_sides) + 1))
        else:
            side = int(random.choice(self.short_sides))
        factor = side / min(height, width)
        factor = min(factor, self.longest_side / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _window(self, size: tuple[int, int], random: np.random.Generator) -> tuple[slice, slice]:
        sides = [min(due, side) for due, side in zip(self.crop, size, strict=True)]
        starts = [
            int(random.integers(0, there - side + 1))
            for there, side in zip(size, sides, strict=True)
        ]
        rows, columns = (
            slice(start, start + side) for start, side in zip(starts, sides, strict=True)
        )
        return rows, columns


def change_colors(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and hue of an image, changed with p = 0.5 each, as for SSD.

    Args:
        image: uint8 (H,W,3).
        random: decides.

    Returns:
        uint8 (H,W,3).
    """
    image = _scaled(image, random, shift=True)
    contrast_first = random.random() < 0.5
    if contrast_first:
        image = _scaled(image, random)
    image = _in_hsv(image, random)
    return image if contrast_first else _scaled(image, random)


def _scaled(image: np.ndarray, random: np.random.Generator, shift: bool = False) -> np.ndarray:
    """Brightness (`shift`) or contrast of any shape of uint8, changed or not."""
    if random.random() >= 0.5:
        return image
    amount = random.uniform(-_BRIGHTNESS, _BRIGHTNESS) if shift else random.uniform(*_SCALES)
    levels = np.arange(256) + amount if shift else np.arange(256) * amount
    return levels.clip(0, 255).astype(np.uint8)[image]


def _in_hsv(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Saturation and hue of uint8 (H,W,3), each changed or not, (H,W,3)."""
    saturates, turns = random.random() < 0.5, random.random() < 0.5
    if not saturates and not turns:
        return image
    hsv = np.array(Image.fromarray(np.ascontiguousarray(image)).convert("HSV"))
    if saturates:
        levels = (np.arange(256) * random.uniform(*_SCALES)).clip(0, 255).astype(np.uint8)
        hsv[..., 1] = levels[hsv[..., 1]]
    if turns:
        shift = round(random.uniform(-_HUE_SHIFT, _HUE_SHIFT) * _HUES)
        hsv[..., 0] = ((np.arange(256) + shift) % _HUES).astype(np.uint8)[hsv[..., 0]]
    return np.array(Image.fromarray(hsv, "HSV").convert("RGB"))
