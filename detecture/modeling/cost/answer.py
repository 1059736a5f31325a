"""From the logits of an image's views to its label map, in bounded memory.

The scores of T classes at H x W are never made at once unless they are asked for: names come in
chunks, rows in blocks, and a name that cannot win anywhere is left out, which changes nothing.

Legend: V views, T names, K classes, C names at a time, H, W size that is asked for, g side of the
logits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from detecture.modeling.cost.canvases import ViewCanvas, resized_rows

_ELEMENTS = 1 << 23  # of a map in the making: 32 MB


@dataclass(frozen=True)
class Seen:
    """What was seen of an image.

    Attributes:
        canvases: ways of seeing it, whose scores are averaged.
        logits: for each canvas, of its views: (V,T,g,g).
        class_of_name: class of each of the T names; a class has the best score of its names.
        size: (H,W).
    """

    canvases: Sequence[ViewCanvas]
    logits: Sequence[Tensor]
    class_of_name: Sequence[int]
    size: tuple[int, int]

    @property
    def classes(self) -> int:
        """K."""
        return self.class_of_name[-1] + 1

    def best(self) -> tuple[Tensor, Tensor]:
        """The label map, int16 (H,W), ties to the lowest class, and its scores (H,W) in 0..1."""
        first = self.logits[0]
        score_HW = torch.full(self.size, -1.0, device=first.device)
        name_HW = torch.zeros(self.size, dtype=torch.int16, device=first.device)
        bound_T = self._bounds()
        for index_C in bound_T.argsort(descending=True, stable=True).split(self._chunk):
            if float(bound_T[index_C[0]]) < float(score_HW.min()):
                break  # neither this name nor those behind it can win
            index_C = index_C.sort().values
            for rows, scores_ChW in self._scores(index_C):
                best_hW, at_hW = scores_ChW.max(dim=0)
                found_hW = index_C[at_hW].to(torch.int16)
                place = slice(rows.start, rows.stop)
                old_hW, old_name_hW = score_HW[place], name_HW[place]
                wins = (best_hW > old_hW) | ((best_hW == old_hW) & (found_hW < old_name_hW))
                score_HW[place] = torch.where(wins, best_hW, old_hW)
                name_HW[place] = torch.where(wins, found_hW, old_name_hW)
        table_T = torch.tensor(self.class_of_name, dtype=torch.int16, device=first.device)
        for rows in self._row_blocks(1):
            place = slice(rows.start, rows.stop)
            name_HW[place] = table_T[name_HW[place].long()]
        return name_HW, score_HW

    def dense(self) -> Tensor:
        """Scores of every class, float (K,H,W)."""
        dense_KHW = torch.zeros(self.classes, *self.size, device=self.logits[0].device)
        for index_C in torch.arange(len(self.class_of_name)).split(self._chunk):
            index_C = index_C.to(dense_KHW.device)
            for rows, scores_ChW in self._scores(index_C):
                for name, score_hW in zip(index_C.tolist(), scores_ChW, strict=True):
                    of_class = dense_KHW[self.class_of_name[name], rows.start : rows.stop]
                    torch.maximum(of_class, score_hW, out=of_class)
        return dense_KHW

    @cached_property
    def _chunk(self) -> int:
        largest = max(
            canvas.size[0] * canvas.size[1] if canvas.size else logits[0, 0].numel()
            for canvas, logits in zip(self.canvases, self.logits, strict=True)
        )
        return max(min(_ELEMENTS // largest, len(self.class_of_name)), 1)

    def _bounds(self) -> Tensor:
        """What no score of a name can exceed, (T,): all that follows averages sigmoids."""
        bounds = [logits.amax(dim=(0, 2, 3)).sigmoid() for logits in self.logits]
        # Rounding in the averages.
        return torch.stack(bounds).amax(dim=0) * (1 + 1e-5)

    def _row_blocks(self, names: int) -> Iterator[range]:
        count = max(_ELEMENTS // (names * self.size[1]), 1)
        for first in range(0, self.size[0], count):
            yield range(first, min(first + count, self.size[0]))

    def _scores(self, index_C: Tensor) -> Iterator[tuple[range, Tensor]]:
        """Blocks of rows and the scores (C,h,W) of some names there."""
        maps = [
            canvas.scores(logits[:, index_C])
            for canvas, logits in zip(self.canvases, self.logits, strict=True)
        ]
        for rows in self._row_blocks(len(index_C)):
            total = resized_rows(maps[0], self.size, rows)
            for other in maps[1:]:
                total = total + resized_rows(other, self.size, rows)
            yield rows, total / len(maps) if len(maps) > 1 else total
