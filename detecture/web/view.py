"""An answer as HTML: the image, its label map for the script beside this file, and a legend."""

import base64
import io
import json
import zlib
from html import escape
from importlib.resources import files

import numpy as np
from PIL import Image

from detecture.engine import SemanticResult, TextureResult
from detecture.errors import counted
from detecture.visualize import region_colors
from detecture.web.service import Answer

VIEW_SIZE = 1024
"""Longer side, in pixels, of what the browser gets; the downloads are in full size."""

_MOST_MISSED = 10  # classes that were not found, named in the message
_LEAST_SHOWN = 640  # smaller images are enlarged to this width


def asset(name: str) -> str:
    """Text of a file of this package: `view.js` or `view.css`."""
    return files("detecture.web").joinpath(name).read_text(encoding="utf-8")


def view_html(result: TextureResult | SemanticResult, size: int = VIEW_SIZE) -> str:
    """Image and legend of a result.

    The exact label map is included as base64 of deflated little-endian uint16 (h,w), and view.js
    paints it: the browser can then change opacity and point at regions without asking the server.

    Args:
        result: of any size.
        size: longer side of the image in the page; smaller images keep their size.
    """
    labels_HW, lines = _regions(result)
    height, width = labels_HW.shape
    scale = min(1.0, size / max(height, width))
    shown = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(result.image)
    if image.size != shown:
        image = image.resize(shown, Image.Resampling.BILINEAR, reducing_gap=2.0)
    jpeg = io.BytesIO()
    image.save(jpeg, format="JPEG", quality=88)
    labels = zlib.compress(_smaller(labels_HW, *shown).astype("<u2").tobytes())
    highest = max([int(labels_HW.max(initial=0)), *(label for label, _, _ in lines)])
    colors = region_colors(highest)
    return (
        f'<div class="dt-view" data-width="{shown[0]}" data-height="{shown[1]}" '
        f'data-colors="{json.dumps(colors.tolist())}" data-labels="{_base64(labels)}">'
        f'<div class="dt-stage" style="--aspect:{shown[0] / shown[1]:.4f}; '
        f'--width:{max(shown[0], _LEAST_SHOWN)}px"><img alt="{escape(result.name)}" '
        f'src="data:image/jpeg;base64,{_base64(jpeg.getvalue())}">'
        '<canvas></canvas><div class="dt-tip" hidden></div></div>'
        f"{_alternatives(result)}{_legend(lines, colors, _confidence(result))}</div>"
    )


def status_html(answer: Answer) -> str:
    """One line: how many regions, which size, how long it took."""
    result = answer.result
    height, width = result.label_map.shape
    missed = ""
    if isinstance(result, SemanticResult):
        asked = range(len(result.vocabulary))
        lacking = [result.classes[n] for n in sorted(set(asked) - set(result.found()))]
        regions = f"{len(asked) - len(lacking)} of {len(asked)} classes"
        if lacking:
            more = ", .." if len(lacking) > _MOST_MISSED else ""
            missed = f" Not found: {escape(', '.join(lacking[:_MOST_MISSED]))}{more}."
    else:
        regions = counted(result.num_regions, "region")
    kept = answer.encoding is None
    parts = [
        "image kept from before" if kept else f"read and encoded in {answer.encoding:.2f} s",
        f"segmented in {answer.predicting:.2f} s",
        f"files written in {answer.saving:.2f} s",
    ]
    if answer.waited >= 0.1:
        parts.append(f"waited {answer.waited:.1f} s for other requests")
    said = "" if result.status == "ok" else f" The method says: {escape(result.status)}."
    notes = "".join(f"<br>{escape(note)}." for note in answer.notes)
    return (
        f'<div class="dt-message" role="status"><b>{regions}</b> in {escape(result.name)}, '
        f"{width} x {height} pixels: {', '.join(parts)}.{missed}{said}{notes}</div>"
    )


def hint_html(text: str) -> str:
    """What to do next."""
    return f'<div class="dt-message">{escape(text)}</div>'


def error_html(text: str) -> str:
    """A message saying what cannot be done, and why."""
    text = escape(f"Not segmented: {text}.")
    return f'<div class="dt-message dt-error" role="alert">{text}</div>'


def _regions(
    result: TextureResult | SemanticResult,
) -> tuple[np.ndarray, list[tuple[int, str, float]]]:
    """Labels (H,W), 0 for what has no colour, and the text and percentage of each."""
    lines: list[tuple[int, str, float]]
    if isinstance(result, SemanticResult):
        shares = 100.0 * result.areas / max(result.label_map.size, 1)
        lines = [
            (0 if n == result.background else n + 1, result.shown(n), float(shares[n]))
            for n in result.found()
        ]
        return result.region_map, lines
    shares = 100.0 * result.areas / max(result.label_map.size, 1)
    texts = zip(result.descriptions, shares.tolist(), strict=True)
    lines = [(n, text or f"region {n}", share) for n, (text, share) in enumerate(texts, 1)]
    rest = 100.0 - float(shares.sum())
    if rest > 0.05:
        lines.append((0, "no region", rest))
    return result.label_map, lines


def _confidence(result: TextureResult | SemanticResult) -> tuple[float, ...]:
    """Of each region; empty where the method has none."""
    return result.confidence if isinstance(result, TextureResult) else ()


def _alternatives(result: TextureResult | SemanticResult) -> str:
    """The numbers of regions that were considered with their percents, the chosen one marked."""
    if not isinstance(result, TextureResult) or not result.alternatives:
        return ""
    items = []
    for one in sorted(result.alternatives, key=lambda one: one.count):
        mark = ' class="dt-chosen"' if one.count == result.num_regions else ""
        items.append(f"<span{mark}>{one.count}: {100 * one.probability:.0f} %</span>")
    told = "".join(items)
    return f'<div class="dt-alternatives">Probability of each number of regions: {told}</div>'


def _legend(
    lines: list[tuple[int, str, float]], colors: np.ndarray, confidence: tuple[float, ...]
) -> str:
    """Labels with their texts, shares and confidence, if there is any; `colors` uint8 (N,3)."""
    items = []
    for n, text, share in lines:
        sure = f"{100 * confidence[n - 1]:.0f} %" if n and confidence else ""
        items.append(_line(n, colors[n] if n else None, text, share, sure))
    head = '<div class="dt-head"><span>share</span><span>confidence</span></div>'
    return f'{head if confidence else ""}<ol class="dt-legend">{"".join(items)}</ol>'


def _line(label: int, color: np.ndarray | None, text: str, share: float, sure: str) -> str:
    """A line of the legend: colour (3,) uint8 RGB or none, text, share in percent, confidence."""
    told = f'<span class="dt-sure">{sure}</span>' if sure else ""
    fill = "transparent" if color is None else f"rgb({color[0]},{color[1]},{color[2]})"
    return (
        f'<li tabindex="0" data-region="{label}"><span class="dt-chip" style="background:{fill}">'
        f'</span><span class="dt-text">{escape(text)}</span>'
        f'<span class="dt-share">{share:.1f} %</span>{told}</li>'
    )


def _smaller(label_map: np.ndarray, width: int, height: int) -> np.ndarray:
    """Nearest neighbours: labels (H,W) to (h,w), h being `height` and w `width`."""
    rows = ((np.arange(height) + 0.5) * label_map.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * label_map.shape[1] / width).astype(np.int64)
    return label_map[rows[:, None], columns]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
