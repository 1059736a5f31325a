"""One procedural image: layout, textures, light, and what is true of its regions."""

import hashlib
from dataclasses import dataclass

import numpy as np

from detecture.data.lexicon.attributes import RegionAttributes
from detecture.data.synthetic import outlines  # noqa: F401  (registers layouts)
from detecture.data.synthetic.attributes import describe_region
from detecture.data.synthetic.camera import expose
from detecture.data.synthetic.compose import Address, compose
from detecture.data.synthetic.compose_natural import compose_natural
from detecture.data.synthetic.editions import FIRST_EDITION, check_edition
from detecture.data.synthetic.effects import apply_effects
from detecture.data.synthetic.layouts import divide
from detecture.data.synthetic.sentences import write_sentences
from detecture.data.synthetic.streams import EFFECTS, LAYOUT, PLAN, WORDS, stream
from detecture.errors import DatasetError

MOST_REGIONS = 6
DEFAULT_SIZE = 256
"""Side in pixels of the images that models are evaluated on."""
LEAST_SIZE, GREATEST_SIZE = 32, 2048
UNLABELLED_SHARE = (0.05, 0.30)
"""Of an image with an unlabelled part: least and greatest share of the pixels."""

_UNLABELLED_PROB = 0.2


@dataclass(frozen=True)
class Scene:
    """An image and the truth about it.

    Attributes:
        image: uint8 (H,W,3), sRGB.
        masks: bool (M,H,W), disjoint; what none of them covers is unlabelled.
        descriptions: M sentences, no two alike.
        attributes: of the M regions.
        layout: name of the layout (`LAYOUTS`, or `single`).
        families: names of the M texture families.
        equal_mean: two regions (numbers from 0) that were given the same mean colour before the
            light was added; None where there are none.
        equal_contrast: they were given the same deviation of the brightness, too.
        same_family: two regions with one texture; None where there are none.
        varied: numbers of the regions that were made to vary inside (edition 2).
    """

    image: np.ndarray
    masks: np.ndarray
    descriptions: list[str]
    attributes: list[RegionAttributes]
    layout: str
    families: tuple[str, ...]
    equal_mean: tuple[int, int] | None = None
    equal_contrast: bool = False
    same_family: tuple[int, int] | None = None
    varied: tuple[int, ...] = ()

    def digest(self) -> str:
        """SHA-256 of the image and the masks, hexadecimal."""
        content = hashlib.sha256(repr(self.masks.shape).encode())
        content.update(np.ascontiguousarray(self.image).tobytes())
        content.update(np.packbits(self.masks).tobytes())
        return content.hexdigest()


def plan_of(seed: int, index: int) -> tuple[int, bool]:
    """K of the image of an address, and whether a part of it stays unlabelled, undrawn."""
    return _plan(stream(seed, index, PLAN))


def _plan(rng: np.random.Generator) -> tuple[int, bool]:
    return int(rng.integers(1, MOST_REGIONS + 1)), bool(rng.random() < _UNLABELLED_PROB)


def render_scene(
    seed: int,
    index: int,
    size: int = DEFAULT_SIZE,
    num_regions: int | None = None,
    *,
    family: str | None = None,
    layout: str | None = None,
    edition: int = FIRST_EDITION,
) -> Scene:
    """Draw the image of an address: the same arguments always give the same bytes.

    Args:
        seed: of the data set, from 0.
        index: of the image in it, from 0.
        size: side of the square image in pixels, 32 to 2048. Sizes of all patterns go with it,
            but another size is another image.
        num_regions: K, 1 to 6; by default drawn evenly from these. A given K that equals the drawn
            one changes nothing.
        family: give every region this texture family (for contact sheets).
        layout: use this layout, where it can hold the regions (for contact sheets).
        edition: of the generator, 1 or 2; the records of a data set say theirs.

    Raises:
        DatasetError: an argument is out of its range.
    """
    if not LEAST_SIZE <= size <= GREATEST_SIZE:
        raise DatasetError(
            f"size {size}: procedural images have {LEAST_SIZE} to {GREATEST_SIZE} pixels"
        )
    check_edition(edition)
    rng = stream(seed, index, PLAN)
    drawn, leaves_part = _plan(rng)
    count = drawn if num_regions is None else num_regions
    if not 1 <= count <= MOST_REGIONS:
        raise DatasetError(f"num_regions {count}: an image has 1 to {MOST_REGIONS} regions")
    unlabelled = UNLABELLED_SHARE if leaves_part else None
    division = divide(stream(seed, index, LAYOUT), (size, size), count, unlabelled, layout, edition)
    labels = division.labels

    draw = compose if edition == FIRST_EDITION else compose_natural
    drawing = draw(rng, Address(seed, index, size), division, count, family)
    develop = apply_effects if edition == FIRST_EDITION else expose
    image = develop(stream(seed, index, EFFECTS), drawing.canvas, labels)

    masks = np.stack([labels == number for number in range(count)])
    attributes = [
        describe_region(image, masks[i], drawing.plans[i], i not in drawing.receding)
        for i in range(count)
    ]
    return Scene(
        image=image,
        masks=masks,
        descriptions=write_sentences(stream(seed, index, WORDS), attributes, edition),
        attributes=attributes,
        layout=division.name,
        families=tuple(drawing.plans[i].family for i in range(count)),
        equal_mean=drawing.equal_mean,
        equal_contrast=drawing.equal_contrast,
        same_family=drawing.same_family,
        varied=tuple(sorted(drawing.varied)),
    )
