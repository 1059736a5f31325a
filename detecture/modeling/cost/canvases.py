"""Views of an image, and the scores of its canvas from what was seen in them.

CAT-Seg's evaluation: the image, resized to a canvas of 640 x 640, is seen in windows of 384 pixels,
256 apart, and as a whole; each pixel's score is the mean of the windows over it, averaged with that
of the whole. The published code makes windows by unfolding, which leaves pixels that no window
covers, and so NaN, unless the sizes divide: here the last window is moved back to the edge.

Legend: H, W size of a canvas, S side of a view, V views, T names, C names at a time, g side of the
logits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from detecture.config.sections.semantic import SlidingSettings
from detecture.d2 import CfgNode


def window_starts(length: int, window: int, step: int) -> list[int]:
    """Where windows begin, so that each pixel is covered; the last one ends at the edge.

    Args:
        length: of the canvas, at least `window`.
        window: its length.
        step: from one to the next.
    """
    last = length - window
    return [*range(0, last, step), last]


@dataclass(frozen=True)
class ViewCanvas:
    """One way of seeing an image.

    Attributes:
        size: (H,W) that the image is resized to; None: it is only seen as a whole, and has the
            scores of the logits' size.
        window: side of the windows.
        step: from one window to the next.
        whole_weight: of the whole image beside its windows.
        flipped: left and right are exchanged.
    """

    size: tuple[int, int] | None = None
    window: int = 384
    step: int = 256
    whole_weight: float = 0.5
    flipped: bool = False

    def corners(self) -> list[tuple[int, int]]:
        """Top and left of each window."""
        if self.size is None or self.whole_weight == 1.0:
            return []
        rows, columns = (window_starts(side, self.window, self.step) for side in self.size)
        return [(top, left) for top in rows for left in columns]

    def views(self, image_3HW: Tensor) -> list[Tensor]:
        """The windows, then, where it counts, the whole image: float (3,S,S) in 0..255.

        Args:
            image_3HW: uint8 or float, of any size.
        """
        image_3HW = image_3HW.float()
        if self.flipped:
            image_3HW = image_3HW.flip(-1)
        if self.size is None:
            return [image_3HW]
        found = []
        corners = self.corners()
        if corners:
            canvas = _resized(image_3HW, self.size)
            side = self.window
            found = [canvas[:, top : top + side, left : left + side] for top, left in corners]
        if self.whole_weight:
            found.append(_resized(image_3HW, (self.window, self.window)))
        return found

    def scores(self, logits_VCgg: Tensor) -> Tensor:
        """Scores in 0..1 of the canvas, (C,H,W), from the logits of its views."""
        whole = logits_VCgg[0].sigmoid() if not self.size else self._joined(logits_VCgg, self.size)
        return whole.flip(-1) if self.flipped else whole

    def _joined(self, logits_VCgg: Tensor, size: tuple[int, int]) -> Tensor:
        """Scores (C,*size) of the windows and the whole, from logits (V,C,g,g)."""
        corners, side = self.corners(), self.window
        scores_CHW = logits_VCgg.new_zeros(logits_VCgg.shape[1], *size)
        count_HW = logits_VCgg.new_zeros(size)
        for (top, left), logits_Cgg in zip(corners, logits_VCgg, strict=False):
            place = (slice(top, top + side), slice(left, left + side))
            scores_CHW[:, place[0], place[1]] += _resized(logits_Cgg, (side, side)).sigmoid_()
            count_HW[place] += 1
        if corners:
            scores_CHW *= (1 - self.whole_weight) / count_HW
        if self.whole_weight:
            whole = _resized(logits_VCgg[-1], (side, side)).sigmoid_()
            scores_CHW += self.whole_weight * _resized(whole, size)
        return scores_CHW


def _resized(maps_CHW: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, corners not aligned: (C,H,W) to (C,*size)."""
    if tuple(maps_CHW.shape[-2:]) == tuple(size):
        return maps_CHW.clone()
    return functional.interpolate(maps_CHW[None], tuple(size), mode="bilinear")[0]


def resized_rows(maps_CHW: Tensor, size: Sequence[int], rows: range) -> Tensor:
    """Some rows of maps (C,H,W) that are resized to `size`: (C,len(rows),size[1]).

    The same as of the whole, in the memory of the part.

    Args:
        maps_CHW: of any size.
        size: height and width of the whole.
        rows: of it.
    """
    height = maps_CHW.shape[1]
    if height == size[0]:
        part = maps_CHW[:, rows.start : rows.stop]
    else:
        index = torch.arange(rows.start, rows.stop, device=maps_CHW.device, dtype=torch.float32)
        at = ((index + 0.5) * (height / size[0]) - 0.5).clamp(min=0)
        above = at.floor().long().clamp(max=height - 1)
        below = (above + 1).clamp(max=height - 1)
        share = (at - above)[:, None].to(maps_CHW.dtype)
        part = torch.lerp(maps_CHW[:, above], maps_CHW[:, below], share)
    if part.shape[2] == size[1]:
        return part
    return functional.interpolate(part[None], (len(rows), size[1]), mode="bilinear")[0]


@dataclass(frozen=True, kw_only=True)
class Viewing:
    """How images are seen in evaluation.

    Attributes:
        sliding: windows.
        flip: each canvas is seen a second time, flipped.
        short_sides: of the canvases, for several scales; empty: that of `sliding`.
        longest_side: that a canvas may have, at one scale too; None: any.
    """

    sliding: SlidingSettings
    flip: bool
    short_sides: tuple[int, ...] = ()
    longest_side: int | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Viewing":
        """As TEST.SLIDING and TEST.AUG say."""
        sliding, augmentation = SlidingSettings.from_config(cfg), cfg.TEST.AUG
        several = augmentation.ENABLED and sliding.enabled
        return cls(
            sliding=sliding,
            flip=augmentation.ENABLED and augmentation.FLIP,
            short_sides=tuple(augmentation.MIN_SIZES) if several else (),
            longest_side=augmentation.MAX_SIZE,
        )

    def told(self) -> dict[str, str]:
        """What of it every figure depends on, in words: `sliding`, `scales` and `flips`."""
        sliding = "off, the image is seen as a whole"
        if self.sliding.enabled:
            canvas = " x ".join(map(str, self.sliding.canvas)) or "of the image's own size"
            longest = "" if self.longest_side is None else f" of at most {self.longest_side}"
            sliding = (
                f"canvas {canvas}{longest}, kernel {self.sliding.kernel}, overlap "
                f"{self.sliding.overlap:.3g}, weight of the whole image "
                f"{self.sliding.global_weight:g}"
            )
        scales = ", ".join(map(str, self.short_sides))
        return {
            "sliding": sliding,
            "scales": f"shorter sides {scales}" if scales else "one",
            "flips": "on" if self.flip else "off",
        }

    def canvases(self, height: int, width: int) -> list[ViewCanvas]:
        """For an image of that size."""
        if not self.sliding.enabled:
            found = [ViewCanvas()]
        else:
            base = self.sliding.canvas or (height, width)
            sides = self.short_sides or (min(base),)
            found = [self._canvas(base, side) for side in sides]
        flipped = [replace(canvas, flipped=True) for canvas in found] if self.flip else []
        return found + flipped

    def batches(self, canvas: ViewCanvas, image_3HW: Tensor) -> Iterator[list[Tensor]]:
        """The views (3,S,S) of an image on a canvas, TEST.SLIDING.BATCH at a time."""
        views, count = canvas.views(image_3HW), self.sliding.batch
        for first in range(0, len(views), count):
            yield views[first : first + count]

    def _canvas(self, base: Sequence[int], short_side: int) -> ViewCanvas:
        """Of the shape of `base`, the short side as given, but never less than a window."""
        window = self.sliding.kernel
        factor = short_side / min(base)
        if self.longest_side is not None:
            factor = min(factor, self.longest_side / max(base))
        size = tuple(max(round(side * factor), window) for side in base)
        return ViewCanvas(
            size=(size[0], size[1]),
            window=window,
            step=max(int(window * (1 - self.sliding.overlap)), 1),
            whole_weight=self.sliding.global_weight,
        )
