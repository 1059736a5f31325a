"""Images: how they are read, and those that are composed for training."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, nested, section
from detecture.errors import ConfigError, brief


@section("INPUT.MICRO_CROP", "Now and then, train on a square crop instead of the whole image.")
@dataclass(frozen=True, kw_only=True)
class MicroCropSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    prob: float = key(0.35, "How often, as a share of the samples.", least=0, greatest=1)
    side: tuple[float, float] = key(
        (300 / 1008, 600 / 1008),
        "Least and greatest side of the crop, as a share of the stretched image (published: 300 "
        "and 600 of 1008 pixels).",
    )
    min_regions: int = key(
        2, "A crop in which fewer regions than this survive is not used; the whole image is."
    )
    min_share: float = key(
        0.01,
        "A region survives a crop if it covers at least this share of it (published: 0, any "
        "pixel).",
        least=0,
        greatest=1,
    )

    def check(self) -> None:
        """Refuse sides that are no range of shares."""
        if len(self.side) != 2 or not 0 < self.side[0] <= self.side[1] <= 1:
            raise ConfigError(
                f"INPUT.MICRO_CROP.SIDE {brief(self.side)}: give the least and the greatest "
                "share, 0 < least <= greatest <= 1"
            )


@section("INPUT.TEXTURE_BANK", "Textures that images are composed of (data set synthetic_mosaics).")
@dataclass(frozen=True, kw_only=True)
class TextureBankSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    folder: str = key(
        "", "Folder of the bank, which is drawn at first use; empty: texture_bank in OUTPUT_DIR."
    )
    named: str = key(
        "",
        "Folder of your own textures, instead of procedural ones: images in one folder for each "
        "name (`wet sand`; synonyms between commas).",
    )
    count: int = key(6000, "Number of textures; 0.2 MB each.")
    first: int = key(0, "Number of its first texture: banks that do not overlap share none.")


@section("INPUT", "Images: how they are read, and how they are trained on.")
@dataclass(frozen=True, kw_only=True)
class InputSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    max_pixels: int = key(
        100_000_000,
        "An image with more pixels than this is refused before it is decoded.",
        least=1,
    )
    bands: tuple[int, ...] = key(
        (),
        "Which bands of an image are red, green and blue, or the one that is grey, from 1 on, as "
        "in `(4, 3, 2)`. Empty: three bands are colours, one is grey, and an image with others is "
        "refused unless the file says which are colours.",
    )
    train_size: int = key(
        1008, "Side in pixels of the square that training images are stretched to.", least=1
    )
    keep_hidden: bool = key(
        False,
        "In training a region counts by its own mask: one that lies wholly under later ones, in "
        "the image or in a crop, keeps its line and its slot, without a pixel (as published). "
        "Otherwise it is left out.",
    )
    color_aug_ssd: bool = key(
        False,
        "Change the colours of training images at random, as SSD does (sets of semantic "
        "segmentation).",
    )
    unruly: float = key(
        0.0,
        "Share of the regions of mosaics that vary coarsely, as most in photographs do.",
        least=0,
        greatest=1,
    )
    micro_crop: MicroCropSettings = nested(MicroCropSettings)
    texture_bank: TextureBankSettings = nested(TextureBankSettings)

    def check(self) -> None:
        """Refuse bands that are not one or three numbers from 1 on."""
        require_bands(self.bands)


def require_bands(bands: Sequence[int]) -> tuple[int, ...]:
    """Bands of INPUT.BANDS as they are, or as any sequence of whole numbers.

    Raises:
        ConfigError: they are not one or three numbers from 1 on.
    """
    try:
        found = tuple(map(operator.index, bands))
    except TypeError:
        found = (0,)
    if len(found) not in (0, 1, 3) or any(band < 1 for band in found):
        raise ConfigError(
            f"INPUT.BANDS {brief(bands)}: give one band (grey) or three (red, green, blue), "
            "counted from 1 on, as in '(4, 3, 2)'; or () to let the file say"
        )
    return found
