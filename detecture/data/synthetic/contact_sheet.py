"""Contact sheets: one image that shows what the generator draws."""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detecture.data.synthetic.editions import LATEST_EDITION, check_edition
from detecture.data.synthetic.families import FAMILIES
from detecture.data.synthetic.layouts import LAYOUTS
from detecture.data.synthetic.scene import Scene, render_scene
from detecture.errors import DatasetError
from detecture.visualize import draw_overlay

SHEETS = ("family", "layout", "scene")
_CAPTION = 14  # pixels below every tile


def contact_sheet(
    by: str,
    seed: int = 0,
    tile: int = 144,
    columns: int = 8,
    edition: int = LATEST_EDITION,
) -> Image.Image:
    """Images of every family, images and their regions of every layout, or scenes as they come.

    Args:
        by: `family`, `layout` or `scene`.
        seed: of the images.
        tile: side of each in pixels.
        columns: tiles in a row.
        edition: of the generator.

    Raises:
        DatasetError: `by` is none of them.
    """
    if by not in SHEETS:
        raise DatasetError(f"contact sheet by {by!r}: use one of {', '.join(SHEETS)}")
    check_edition(edition)
    tiles = list(
        {"family": _families, "layout": _layouts, "scene": _scenes}[by](seed, tile, edition)
    )
    rows = -(-len(tiles) // columns)
    cell = (tile + 2, tile + _CAPTION)
    sheet = Image.new("RGB", (columns * cell[0] - 2, rows * cell[1]), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for place, (caption, pixels) in enumerate(tiles):
        left, top = place % columns * cell[0], place // columns * cell[1]
        sheet.paste(Image.fromarray(pixels), (left, top))
        draw.text((left + 2, top + tile), caption, fill=(0, 0, 0), font=font)
    return sheet


def _families(seed: int, tile: int, edition: int) -> Iterator[tuple[str, np.ndarray]]:
    """Caption and image, uint8 (S,S,3) where S is `tile`, of two textures of each family."""

    def single(scene: Scene) -> bool:
        return scene.layout == "single"

    names = [name for name, kind in FAMILIES.items() if kind.edition <= edition]
    for number, name in enumerate(names):
        index = number * 1000
        for _ in range(2):
            scene, index = _next_scene(seed, index, tile, 1, single, edition, family=name)
            yield name, scene.image


def _layouts(seed: int, tile: int, edition: int) -> Iterator[tuple[str, np.ndarray]]:
    """Caption and pixels, uint8 (S,S,3), of images of each layout, and of their regions."""
    names = [name for name, kind in LAYOUTS.items() if kind.edition <= edition]
    for number, name in enumerate(names):
        index = number * 1000
        for count in (2, 3, 4, 5):

            def of_this_layout(scene: Scene, name: str = name) -> bool:
                return scene.layout == name

            count = min(count, LAYOUTS[name].most)
            scene, index = _next_scene(
                seed, index, tile, count, of_this_layout, edition, layout=name
            )
            yield f"{name}, K = {count}", scene.image
            yield "its regions", _regions(scene)


def _scenes(seed: int, tile: int, edition: int) -> Iterator[tuple[str, np.ndarray]]:
    """Caption and pixels, uint8 (S,S,3), of 32 images as they come, and of their regions."""
    for index in range(32):
        scene = render_scene(seed, index, tile, edition=edition)
        yield f"{index}: {scene.layout}, K = {len(scene.masks)}", scene.image
        yield "its regions", _regions(scene)


def _regions(scene: Scene) -> np.ndarray:
    """The image with every region in a colour: uint8 (H,W,3)."""
    labels = np.zeros(scene.masks.shape[1:], np.int64)
    for region, mask in enumerate(scene.masks, start=1):
        labels[mask] = region
    return draw_overlay(scene.image, labels, opacity=0.7)


def _next_scene(
    seed: int,
    index: int,
    size: int,
    count: int,
    accept: Callable[[Scene], bool],
    edition: int,
    **wanted: str,
) -> tuple[Scene, int]:
    """The first scene from `index` on that is acceptable, and the index behind it."""
    for candidate in range(index, index + 100):
        scene = render_scene(seed, candidate, size, count, **wanted, edition=edition)
        if accept(scene):
            return scene, candidate + 1
    raise DatasetError(f"none of 100 images from seed {seed}, index {index} on has {wanted}")
