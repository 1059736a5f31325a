"""Drawing: label maps as palette pictures, overlays with a legend."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GOLDEN_RATIO = 0.6180339887498949
_ROWS_IN_STRIP = 256

# Well apart for the colour-blind too (Okabe and Ito 2008); further ones are spread over the hues.
_FIRST_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def region_colors(count: int) -> np.ndarray:
    """Colours of the label values: (count+1,3) uint8 RGB; row 0 is the dustbin, black."""
    rows = [(0, 0, 0), *_FIRST_COLORS]
    rows.extend(_spread_color(index) for index in range(len(rows), count + 1))
    return np.array(rows[: count + 1], dtype=np.uint8)


def _spread_color(index: int) -> tuple[int, int, int]:
    hue = index * _GOLDEN_RATIO % 1.0
    rgb = np.abs((hue * 6.0 + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0
    red, green, blue = (255 * (0.25 + 0.65 * np.clip(rgb, 0.0, 1.0))).astype(int)
    return int(red), int(green), int(blue)


def label_map_image(label_map: np.ndarray) -> Image.Image:
    """Label map as a picture whose pixel values are the labels.

    Args:
        label_map: (H,W) integer, 0 dustbin, i+1 texture i.

    Returns:
        A palette image up to 255 textures (it looks coloured in any viewer), 16-bit grey beyond.
    """
    highest = int(label_map.max(initial=0))
    if highest > 255:
        return Image.fromarray(label_map.astype(np.uint16))
    image = Image.fromarray(label_map.astype(np.uint8)).convert("P")
    image.putpalette(region_colors(255).tobytes())
    return image


def draw_overlay(
    image: np.ndarray,
    label_map: np.ndarray,
    captions: Sequence[str] = (),
    opacity: float = 0.45,
) -> np.ndarray:
    """Picture under coloured regions, with their outlines and a legend below.

    Args:
        image: (H,W,3) uint8 RGB.
        label_map: (H,W) integer, 0 dustbin (stays as it is), i+1 texture i.
        captions: one line of the legend for each texture; none draws no legend.
        opacity: of the colours, 0..1.

    Returns:
        (H+legend,W,3) uint8 RGB.
    """
    colors = region_colors(max(int(label_map.max(initial=0)), len(captions)))
    drawn = np.array(image)
    for top in range(0, len(drawn), _ROWS_IN_STRIP):  # floats of a whole picture take gigabytes
        rows = slice(top, top + _ROWS_IN_STRIP)
        mixed = image[rows] * np.float32(1.0 - opacity) + colors[label_map[rows]] * np.float32(
            opacity
        )
        inside = label_map[rows] > 0
        drawn[rows][inside] = mixed.round().astype(np.uint8)[inside]
    drawn[_outline(label_map)] = 255
    if not captions:
        return drawn
    return np.concatenate([drawn, _legend(captions, colors, image.shape[1])])


def _outline(label_map: np.ndarray) -> np.ndarray:
    """(H,W) bool: pixels whose right or lower neighbour has another label."""
    edge = np.zeros(label_map.shape, dtype=bool)
    edge[:, :-1] |= label_map[:, 1:] != label_map[:, :-1]
    edge[:-1] |= label_map[1:] != label_map[:-1]
    return edge


def _legend(captions: Sequence[str], colors: np.ndarray, width: int) -> np.ndarray:
    size = 14
    font = ImageFont.load_default(size)
    # Cut by the pixel, not the letter: a narrow picture gets short lines, not overlapping ones.
    texts = [text or f"region {i + 1}" for i, text in enumerate(captions)]
    lines = [_shorten(text, font, width - 24) for text in texts]
    height = (size + 6) * len(lines) + 6
    legend = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(legend)
    for index, line in enumerate(lines):
        top = 6 + index * (size + 6)
        draw.rectangle((4, top, 4 + size, top + size), fill=tuple(colors[index + 1].tolist()))
        draw.text((24, top - 1), line, fill=(0, 0, 0), font=font)
    return np.asarray(legend)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}..") > width:
        text = text[:-1]
    return f"{text}.."


def side_by_side(panels: Sequence[np.ndarray], caption: str) -> Image.Image:
    """Panels of one height next to each other, with a line of text below.

    Args:
        panels: (H,W,3) uint8 RGB each, all of the same H.
        caption: is cut to the width.
    """
    gap = np.full((panels[0].shape[0], 4, 3), 255, dtype=np.uint8)
    row = [part for panel in panels for part in (panel, gap)][:-1]
    picture = np.concatenate(row, axis=1)
    size = 14
    font = ImageFont.load_default(size)
    canvas = Image.new("RGB", (picture.shape[1], picture.shape[0] + size + 8), (255, 255, 255))
    canvas.paste(Image.fromarray(picture), (0, 0))
    text = _shorten(caption, font, canvas.width - 8)
    ImageDraw.Draw(canvas).text((4, picture.shape[0] + 2), text, fill=(0, 0, 0), font=font)
    return canvas
