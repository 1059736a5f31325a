"""Drawing: label maps as palette images, overlays with a legend, drawings and contact sheets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GOLDEN_RATIO = 0.6180339887498949
_ROWS_IN_STRIP = 256

# Distinct for the colour-blind too (Okabe and Ito 2008); further ones are spread over the hues.
_FIRST_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (120, 120, 120)
_FONT_SIZE = 14
_LINE_HEIGHT = _FONT_SIZE + 6
_GAP = 4  # pixels between panels
_SHEET_GAP = 16  # pixels between tiles
_TEXT_LINES = 3  # a longer text is cut
_LEGEND_ENTRIES = 12  # shown in a legend; further ones are only counted
_LEAST_SIDE, _GREATEST_SIDE = 256, 1024


def region_colors(count: int) -> np.ndarray:
    """Colours of the labels 0 to n = `count`: (n+1,3) uint8 RGB; row 0, the dustbin, is black."""
    rows = [_BLACK, *_FIRST_COLORS]
    rows.extend(_spread_color(index) for index in range(len(rows), count + 1))
    return np.array(rows[: count + 1], dtype=np.uint8)


def _spread_color(index: int) -> tuple[int, int, int]:
    hue = index * _GOLDEN_RATIO % 1.0
    rgb = np.abs((hue * 6.0 + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0
    red, green, blue = (255 * (0.25 + 0.65 * np.clip(rgb, 0.0, 1.0))).astype(int)
    return int(red), int(green), int(blue)


def label_map_image(label_map: np.ndarray, colors: np.ndarray | None = None) -> Image.Image:
    """Label map as an image whose pixel values are the labels.

    Args:
        label_map: (H,W) integer, 0 dustbin, i+1 texture i.
        colors: of the labels, (N,3) uint8 RGB; by default those of `region_colors`.

    Returns:
        A palette image up to 255 textures (it looks coloured in any viewer), 16-bit grey beyond.
    """
    highest = int(label_map.max(initial=0))
    if highest > 255:
        return Image.fromarray(label_map.astype(np.uint16))
    image = Image.fromarray(label_map.astype(np.uint8)).convert("P")
    image.putpalette((region_colors(255) if colors is None else colors[:256]).tobytes())
    return image


def draw_overlay(
    image: np.ndarray,
    label_map: np.ndarray,
    captions: Sequence[str] = (),
    opacity: float = 0.45,
    legend_labels: Sequence[int] | None = None,
) -> np.ndarray:
    """Image under coloured regions, with their outlines and a legend below.

    Args:
        image: (H,W,3) uint8 RGB.
        label_map: (H,W) integer, 0 dustbin (stays as it is), i+1 texture i.
        captions: the legend's text for each texture; without any, no legend is drawn.
        opacity: of the colours, 0..1.
        legend_labels: the label of each caption; by default 1, 2, ..

    Returns:
        (H+L,W,3) uint8 RGB, the legend in the L rows below.
    """
    colors = region_colors(int(label_map.max(initial=0)))
    drawn = np.array(image)
    for top in range(0, len(drawn), _ROWS_IN_STRIP):  # floats of a whole image take gigabytes
        rows = slice(top, top + _ROWS_IN_STRIP)
        mixed = image[rows] * np.float32(1.0 - opacity) + colors[label_map[rows]] * np.float32(
            opacity
        )
        inside = label_map[rows] > 0
        drawn[rows][inside] = mixed.round().astype(np.uint8)[inside]
    drawn[_outline(label_map)] = 255
    if not captions:
        return drawn
    legend = _legend(captions, image.shape[1], legend_labels)
    return np.concatenate([drawn, np.asarray(legend)])


def _outline(label_map: np.ndarray) -> np.ndarray:
    """Pixels of labels (H,W) whose right or lower neighbour has another label: bool (H,W)."""
    edge = np.zeros(label_map.shape, dtype=bool)
    edge[:, :-1] |= label_map[:, 1:] != label_map[:, :-1]
    edge[:-1] |= label_map[1:] != label_map[:-1]
    return edge


def in_colors_of_truth(
    label_map: np.ndarray, assignment: Sequence[Sequence[int]], k_pred: int, k_gt: int
) -> np.ndarray:
    """Renumber predicted textures like the true ones that they were matched with.

    Args:
        label_map: integer of any shape, 0 dustbin, i+1 predicted texture i; none above `k_pred`.
        assignment: pairs (predicted, true), both from 0, as in a record of an evaluation.
        k_pred: number of predicted textures.
        k_gt: number of true ones; predicted ones without a partner are numbered from `k_gt` + 1 on.

    Returns:
        The same shape, int32.
    """
    table = np.zeros(k_pred + 1, dtype=np.int32)
    for predicted, true in assignment:
        table[predicted + 1] = true + 1
    extra = [label for label in range(1, k_pred + 1) if not table[label]]
    table[extra] = np.arange(k_gt + 1, k_gt + 1 + len(extra))
    return table[label_map]


@dataclass(frozen=True)
class Drawing:
    """An image and, beside it, panels that show its regions; words below.

    Attributes:
        image: (H,W,3) uint8 RGB.
        overlays: for each further panel a label map, (H,W) integer, whose regions are laid over the
            image; or a text that says why there is none.
        caption: a line about the whole.
        legend: text i is about the regions with label i+1, and has their colour.
    """

    image: np.ndarray
    overlays: Sequence[np.ndarray | str]
    caption: str
    legend: Sequence[str] = ()

    def render(self) -> Image.Image:
        """The drawing at the image's own size, but with a longer side of 256 to 1024 pixels."""
        return self._render(min(max(*self.image.shape[:2], _LEAST_SIDE), _GREATEST_SIDE))

    def render_tile(self, side: int = _LEAST_SIDE) -> Image.Image:
        """The drawing for a contact sheet: every panel `side` pixels wide, and no higher."""
        return self._render(side, even=True)

    def _render(self, side: int, even: bool = False) -> Image.Image:
        height, width = self.image.shape[:2]
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        # Enlarged pixels keep sharp edges: in a tiny image one wants to see what is there.
        method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
        image = np.asarray(Image.fromarray(self.image).resize(size, method))
        panels = [Image.fromarray(image)]
        for overlay in self.overlays:
            if isinstance(overlay, str):
                panels.append(_text_panel(image, overlay))
            else:
                # Resized first and drawn afterwards, so that outlines are one pixel wide.
                labels = Image.fromarray(overlay.astype(np.int32))
                labels = labels.resize(size, Image.Resampling.NEAREST)
                panels.append(Image.fromarray(draw_overlay(image, np.asarray(labels))))
        step = (side if even else size[0]) + _GAP
        canvas = Image.new("RGB", (step * len(panels) - _GAP, size[1]), _WHITE)
        for index, panel in enumerate(panels):
            canvas.paste(panel, (index * step + (step - _GAP - size[0]) // 2, 0))
        return _stacked([canvas, *self._words(canvas.width)])

    def _words(self, width: int) -> list[Image.Image]:
        caption = _wrap(self.caption, width - 8)
        strip = Image.new("RGB", (width, _LINE_HEIGHT * len(caption) + 2), _WHITE)
        for index, line in enumerate(caption):
            _write(strip, line, 4, 2 + index * _LINE_HEIGHT)
        return [strip, _legend(self.legend, width)] if self.legend else [strip]


def annotation_drawing(
    image_id: str,
    image: np.ndarray,
    masks: np.ndarray,
    index_map: np.ndarray,
    descriptions: Sequence[str],
) -> Drawing:
    """Image | true regions, with their descriptions and shares of the image.

    Args:
        image_id: for the caption.
        image: (H,W,3) uint8 RGB.
        masks: (M,H,W) bool, which may overlap.
        index_map: (H,W) integer, i+1 where mask i is seen.
        descriptions: M texts.
    """
    cover = masks.sum(axis=0)
    facts = [f"{image_id}: {_size(image)}", f"K {len(masks)}"]
    for what, share in (("in no mask", np.mean(cover == 0)), ("in several", np.mean(cover > 1))):
        if share:
            facts.append(f"{share:.1%} {what}")
    legend = [
        f"{text or f'region {i + 1}'} ({mask.mean():.0%})"
        for i, (text, mask) in enumerate(zip(descriptions, masks, strict=True))
    ]
    return Drawing(image, [index_map], ", ".join(facts), legend)


def sample_drawing(mapped: dict[str, Any]) -> Drawing:
    """What a model gets: image | label map in training, only the image in evaluation.

    Args:
        mapped: mapped dict with `image`, uint8 tensor (3,H,W), and in training `sem_seg`, (H,W).
    """
    image = np.ascontiguousarray(mapped["image"].permute(1, 2, 0).numpy())
    descriptions = mapped.get("descriptions", [])
    facts = [f"{mapped['image_id']}: {_size(image)}"]
    if "sem_seg" in mapped:
        labels = mapped["sem_seg"].numpy()
        facts += [f"made of {mapped['height']} x {mapped['width']}", f"K {len(descriptions)}"]
        if dustbin := np.mean(labels == 0):
            facts.append(f"{dustbin:.1%} dustbin")
        return Drawing(image, [labels], ", ".join(facts), descriptions)
    hint = mapped["k_hint"]
    facts.append("K unknown" if hint.k is None else f"K known: {hint.k} ({hint.kind})")
    if descriptions:  # TEST.ORACLE
        facts.append(f"told: {'; '.join(descriptions)}")
    return Drawing(image, [], ", ".join(facts))


def prediction_drawing(
    record: dict[str, Any],
    image: np.ndarray,
    index_map: np.ndarray,
    descriptions: Sequence[str],
    prediction: np.ndarray | str,
) -> Drawing:
    """Image | ground truth | prediction, with the scores and both sets of descriptions.

    Args:
        record: of an evaluation.
        image: (H,W,3) uint8 RGB.
        index_map: (H,W) integer, i+1 where true region i is seen.
        descriptions: of the true regions.
        prediction: label map of the method, (H,W) integer; or a text that says why there is none.
    """
    caption = (
        f"{record['image_id']}: {record['status']}, K {record['k_pred']} of {record['k_gt']}, "
        f"mIoU {record['mIoU']:.3f}, panoptic {record['pIoU']:.3f}, ARI {record['ARI']:.3f}"
    )
    assignment = record.get("assignment", [])
    if not isinstance(prediction, str):
        prediction = in_colors_of_truth(prediction, assignment, record["k_pred"], len(descriptions))
    said = record.get("descriptions", [])
    partners = {
        true: (predicted, iou)
        for (predicted, true), iou in zip(assignment, record.get("matched_ious", []), strict=True)
    }
    legend = []
    for index, text in enumerate(descriptions):
        predicted, iou = partners.get(index, (None, 0.0))
        parts = ["not found" if predicted is None else f"IoU {iou:.2f}", text]
        if predicted is not None and said[predicted]:
            parts.append(f"predicted: {said[predicted]}")
        legend.append(" | ".join(filter(None, parts)))
    matched = {predicted for predicted, _ in partners.values()}
    extra = [text for i, text in enumerate(said) if i not in matched]
    legend += [f"extra region | {text}" if text else "extra region" for text in extra]
    return Drawing(image, [index_map, prediction], caption, legend)


def _size(image: np.ndarray) -> str:
    """The size of an image (H,W,3) in words."""
    return f"{image.shape[0]} x {image.shape[1]} (H x W)"


def contact_sheet(tiles: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """Images in a grid, each in a cell of the size of the largest.

    Args:
        tiles: at least one.
        columns: how many side by side; by default as many as make the sheet about square.
    """
    width = max(tile.width for tile in tiles) + _SHEET_GAP
    height = max(tile.height for tile in tiles) + _SHEET_GAP
    if columns is None:
        columns = max(1, round((len(tiles) * height / width) ** 0.5))
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width + _SHEET_GAP, rows * height + _SHEET_GAP), _WHITE)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        sheet.paste(tile, (_SHEET_GAP + column * width, _SHEET_GAP + row * height))
    return sheet


def _stacked(parts: Sequence[Image.Image]) -> Image.Image:
    canvas = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), _WHITE)
    top = 0
    for part in parts:
        canvas.paste(part, (0, top))
        top += part.height
    return canvas


def _text_panel(image: np.ndarray, text: str) -> Image.Image:
    """The image (H,W,3), faded, with a text on it."""
    panel = Image.fromarray((image * 0.2 + 255 * 0.8).astype(np.uint8))
    for index, line in enumerate(_wrap(text, panel.width - 16)):
        _write(panel, line, 8, 8 + index * _LINE_HEIGHT)
    return panel


def _legend(
    captions: Sequence[str], width: int, labels: Sequence[int] | None = None
) -> Image.Image:
    """Texts below each other, text i with the colour of labels[i], or else of label i+1."""
    labels = range(1, len(captions) + 1) if labels is None else labels
    colors = region_colors(max(labels, default=0))
    shown = min(len(captions), _LEGEND_ENTRIES)
    texts = [text or f"region {i + 1}" for i, text in enumerate(captions[:shown])]
    entries = [_wrap(text, width - 28) for text in texts]
    if len(captions) > shown:
        entries.append([f".. and {len(captions) - shown} more"])
    canvas = Image.new("RGB", (width, _LINE_HEIGHT * sum(map(len, entries)) + 6), _WHITE)
    draw = ImageDraw.Draw(canvas)
    top = 3
    for index, lines in enumerate(entries):
        if index < shown:
            box = (4, top + 2, 4 + _FONT_SIZE, top + 2 + _FONT_SIZE)
            fill = tuple(colors[labels[index]].tolist()) if labels[index] else _WHITE
            draw.rectangle(box, fill=fill, outline=_GREY)
        for line in lines:
            _write(canvas, line, 24, top)
            top += _LINE_HEIGHT
    return canvas


def _write(canvas: Image.Image, line: str, left: int, top: int) -> None:
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(canvas).text((left, top), line, fill=_BLACK, font=font)


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` pixels; a text that needs too many is cut."""
    font = ImageFont.load_default(_FONT_SIZE)
    # Any white space is one space: fonts refuse line breaks. Nobody sees the thousandth letter.
    words = text[:1000].split()
    lines: list[str] = []
    line = ""
    for index, word in enumerate(words):
        longer = f"{line} {word}" if line else word
        if font.getlength(longer) <= width:
            line = longer
            continue
        if len(lines) == _TEXT_LINES - 1:
            return [*lines, _shorten(" ".join([line, *words[index:]]).strip(), font, width)]
        if line:
            lines.append(line)
        line = _shorten(word, font, width)
    return [*lines, line]


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}..") > width:
        text = text[:-1]
    return f"{text}.."
