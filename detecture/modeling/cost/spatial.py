"""Spatial aggregation: two blocks of windowed attention over the patches, each class by itself.

The classes are folded into the batch. Queries and keys see the image's appearance beside the cost;
what of them comes from there is the same for all classes and is computed once.

Legend: B images, T classes, N = G*G patches, G grid, C channels, D channels of the guidance,
w window, H heads, O channels that go out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class GuidedLinear(nn.Linear):
    """A linear layer on `[x; guidance]`, whose part of the guidance is computed by itself."""

    def __init__(self, width: int, guidance: int, out: int) -> None:
        super().__init__(width + guidance, out)
        self.width = width

    def of_guidance(self, guidance: Tensor) -> Tensor:
        """Guidance (..,D) to what it adds, the bias included, (..,O)."""
        return functional.linear(guidance, self.weight[:, self.width :], self.bias)

    def forward(self, x: Tensor, added: Tensor) -> Tensor:  # type: ignore[override]
        """x (..,C) and what the guidance adds (..,O), which is broadcast, to (..,O)."""
        return functional.linear(x, self.weight[:, : self.width]) + added


class WindowBlock(nn.Module):
    """Pre-norm attention in windows, and a perceptron; without a relative position bias."""

    mask_MAA: Tensor

    def __init__(
        self, width: int, guidance: int, heads: int, grid: int, window: int, shift: int
    ) -> None:
        """Make the layers.

        Args:
            width: C.
            guidance: D.
            heads: H.
            grid: G.
            window: w; at most the grid, which it must divide.
            shift: of the windows, in patches; 0: none.
        """
        super().__init__()
        self.heads, self.grid, self.window, self.shift = heads, grid, window, shift
        self.norm1 = nn.LayerNorm(width)
        self.query = GuidedLinear(width, guidance, width)
        self.key = GuidedLinear(width, guidance, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        mask = shifted_mask(grid, window, shift) if shift else torch.zeros(0)
        self.register_buffer("mask_MAA", mask, persistent=False)

    def forward(self, x_BTNC: Tensor, guidance_BND: Tensor | None) -> Tensor:
        """Cost tokens (B,T,N,C) to the same, with the appearance (B,N,D) of the images."""
        normed = self.norm1(x_BTNC)
        if guidance_BND is None:
            guidance_BND = x_BTNC.new_zeros(len(x_BTNC), x_BTNC.shape[2], 0)
        query = self.query(normed, self.query.of_guidance(guidance_BND)[:, None])
        key = self.key(normed, self.key.of_guidance(guidance_BND)[:, None])
        q, k, v = (self._windows(part) for part in (query, key, self.value(normed)))
        mask = None
        if self.shift:
            # Windows of one image lie side by side, so the masks repeat.
            mask = self.mask_MAA.repeat(len(q) // len(self.mask_MAA), 1, 1)[:, None]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x_BTNC = x_BTNC + self.out(self._whole(mixed, x_BTNC.shape))
        return x_BTNC + self.mlp(self.norm2(x_BTNC))

    def _windows(self, x_BTNC: Tensor) -> Tensor:
        """(B*T*M,H,A,C/H): M windows of A = w*w patches each."""
        side, window = self.grid, self.window
        x = x_BTNC.reshape(-1, side, side, x_BTNC.shape[-1])
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        x = x.reshape(len(x), side // window, window, side // window, window, -1)
        x = x.transpose(2, 3).reshape(-1, window * window, self.heads, x.shape[-1] // self.heads)
        return x.transpose(1, 2)

    def _whole(self, mixed: Tensor, shape: torch.Size) -> Tensor:
        """Undoes `_windows`: (B*T*M,H,A,C/H) to `shape` (B,T,N,C)."""
        side, window = self.grid, self.window
        x = mixed.transpose(1, 2).reshape(
            -1, side // window, side // window, window, window, shape[-1]
        )
        x = x.transpose(2, 3).reshape(-1, side, side, shape[-1])
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x.reshape(shape)


def shifted_mask(grid: int, window: int, shift: int) -> Tensor:
    """What patches of a shifted window see of each other: 0, or -100 from another side.

    Returns:
        float32 (M,A,A): M windows of A patches.
    """
    part = torch.zeros(grid, dtype=torch.int64)
    part[-window:-shift] = 1
    part[-shift:] = 2
    region_GG = 3 * part[:, None] + part[None]
    region = region_GG.reshape(grid // window, window, grid // window, window)
    region_MA = region.transpose(1, 2).reshape(-1, window * window)
    differs_MAA = region_MA[:, :, None] != region_MA[:, None]
    return differs_MAA.float() * -100.0


class SpatialAggregation(nn.Module):
    """Two blocks of windows, the second shifted by half of one."""

    def __init__(self, width: int, guidance: int, heads: int, grid: int, window: int) -> None:
        """Make the layers; see `WindowBlock`."""
        super().__init__()
        window = min(window, grid)
        shift = window // 2 if window < grid else 0
        self.guidance_norm = nn.LayerNorm(guidance) if guidance else None
        self.blocks = nn.ModuleList(
            WindowBlock(width, guidance, heads, grid, window, s) for s in (0, shift)
        )

    def forward(self, x_BTNC: Tensor, guidance_BND: Tensor | None) -> Tensor:
        """See `WindowBlock`: (B,T,N,C) to the same."""
        if self.guidance_norm is not None and guidance_BND is not None:
            guidance_BND = self.guidance_norm(guidance_BND)
        for block in self.blocks:
            x_BTNC = block(x_BTNC, guidance_BND)
        return x_BTNC
