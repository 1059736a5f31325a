"""What the image encoder makes of a batch of images: computed once, shared by all prompts.

Legend: B images, N prompts, D width, h, w size of a level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detecture.errors import CheckpointError

_POSITIONS = "positions"
_LEVEL = "level."


@dataclass(frozen=True)
class ImageFeatures:
    """Feature maps of B images.

    Attributes:
        levels: feature maps (B,D,h,w), finest first; three of side 288, 144 and 72 at full size.
        positions: (1,D,h,w), position encoding of the coarsest level, the same for all images.
    """

    levels: tuple[Tensor, ...]
    positions: Tensor

    def __len__(self) -> int:
        return int(self.levels[0].shape[0])

    def select(self, index: Tensor | Sequence[int]) -> "ImageFeatures":
        """The images of these rows, int64 (N,) (one may come more than once), copied."""
        rows = torch.as_tensor(index, dtype=torch.int64, device=self.positions.device)
        levels = tuple(level.index_select(0, rows) for level in self.levels)
        return ImageFeatures(levels, self.positions)

    def detach(self) -> "ImageFeatures":
        """The same values, cut off from the graph that made them."""
        levels = tuple(level.detach() for level in self.levels)
        return ImageFeatures(levels, self.positions.detach())

    def to(
        self, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> "ImageFeatures":
        """The same features on another device or in another floating-point type."""
        levels = tuple(level.to(device=device, dtype=dtype) for level in self.levels)
        return ImageFeatures(levels, self.positions.to(device=device, dtype=dtype))

    def state(self) -> dict[str, Tensor]:
        """Levels (B,D,h,w) and positions (1,D,h,w) as torch.save and safetensors take them.

        A plain dict of contiguous tensors.
        """
        state = {f"{_LEVEL}{i}": level.contiguous() for i, level in enumerate(self.levels)}
        return {**state, _POSITIONS: self.positions.contiguous()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "ImageFeatures":
        """The features that `state()` was called on: levels (B,D,h,w) and positions (1,D,h,w).

        Raises:
            CheckpointError: names are missing, or there are others.
        """
        names = [f"{_LEVEL}{i}" for i in range(len(state) - 1)]
        if not names or set(state) != {*names, _POSITIONS}:
            raise CheckpointError(
                f"cached image features must hold level.0, level.1, ... and positions, not "
                f"{', '.join(sorted(state)) or 'nothing'}; delete the cache and compute it anew"
            )
        return cls(tuple(state[name] for name in names), state[_POSITIONS])

    @classmethod
    def concat(cls, parts: Sequence["ImageFeatures"]) -> "ImageFeatures":
        """One batch out of the features of several: how cached images are put together again."""
        levels = tuple(torch.cat(level) for level in zip(*(p.levels for p in parts), strict=True))
        return cls(levels, parts[0].positions)

    def gather(self, image_index_N: Tensor) -> tuple[Tensor, ...]:
        """Every level as (N,D,h,w), one row for each prompt.

        Args:
            image_index_N: int64, which image each prompt belongs to. With one image it is not
                read: the rows are then views of that image, without a copy.
        """
        if len(self) == 1:
            return tuple(level.expand(len(image_index_N), -1, -1, -1) for level in self.levels)
        return tuple(level.index_select(0, image_index_N) for level in self.levels)
