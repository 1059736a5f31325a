"""MH-FPN: several layers of CLIP, brought into one space and onto the sphere, as guidance.

Published: each level is Linear, LayerNorm and GELU, made of length one, times a learnt radius, then
a depthwise 3x3 and a 1x1 convolution with GroupNorm and GELU; the levels are added with learnt
weights and go through a 3x3 and a 1x1 convolution; the result, averaged with CLIP's patch tokens,
guides the spatial aggregation.
Published code: a hook that never fires leaves one level of the wrong width, so that it ends in an
error; it is left out of sliding windows; the GroupNorm behind the radius undoes it.
Here: any list of levels, taken from what the encoder returns, each of CLIP's visual width; length
and radius come last in a level, so that the radius weighs; the result is added to the tokens with a
weight that starts at zero, in training and in all inference.

Legend: B images, W visual width of CLIP, E width of the common space, G grid, V levels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class SphericalLevel(nn.Module):
    """One layer of CLIP, on a sphere of a learnt radius."""

    def __init__(self, width: int, out: int) -> None:
        """Make the layers, W to E."""
        super().__init__()
        self.project = nn.Sequential(nn.Linear(width, out), nn.LayerNorm(out), nn.GELU())
        self.mix = nn.Sequential(
            nn.Conv2d(out, out, 3, padding=1, groups=out),
            nn.Conv2d(out, out, 1),
            _group_norm(out),
            nn.GELU(),
        )
        self.radius = nn.Parameter(torch.tensor(float(out) ** 0.5))

    def forward(self, x_BWGG: Tensor) -> Tensor:
        """(B,W,G,G) to (B,E,G,G), each patch of length `radius`."""
        projected_BEGG = self.project(x_BWGG.movedim(1, -1)).movedim(-1, 1)
        return self.radius * functional.normalize(self.mix(projected_BEGG), dim=1)


class SphericalFpn(nn.Module):
    """The levels, fused, and added to the patch tokens."""

    def __init__(self, width: int, out: int, levels: int, fusion: str = "weighted") -> None:
        """Make the layers.

        Args:
            width: W.
            out: E.
            levels: V.
            fusion: `weighted` by one learnt weight a level, by `attention` of each patch, or
                `concat`.
        """
        super().__init__()
        self.levels = nn.ModuleList(SphericalLevel(width, out) for _ in range(levels))
        self.fusion = fusion
        if fusion == "weighted":
            self.level_logits = nn.Parameter(torch.zeros(levels))
        elif fusion == "attention":
            self.attention = nn.Conv2d(levels * out, levels, 1)
        else:
            self.join = nn.Conv2d(levels * out, out, 1)
        self.refine = nn.Sequential(
            nn.Conv2d(out, out, 3, padding=1), _group_norm(out), nn.GELU(), nn.Conv2d(out, out, 1)
        )
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, tokens_BEGG: Tensor, layers: Sequence[Tensor]) -> Tensor:
        """Tokens (B,E,G,G) with what V layers (B,W,G,G) add: (B,E,G,G)."""
        found = [level(layer) for level, layer in zip(self.levels, layers, strict=True)]
        return tokens_BEGG + self.gate * self.refine(self._fused(found))

    def _fused(self, found: Sequence[Tensor]) -> Tensor:
        """V levels (B,E,G,G) to one (B,E,G,G)."""
        stacked_VBEGG = torch.stack(tuple(found))
        if self.fusion == "weighted":
            weights = self.level_logits.softmax(0).reshape(-1, 1, 1, 1, 1)
            return (weights * stacked_VBEGG).sum(dim=0)
        joined = torch.cat(tuple(found), dim=1)
        if self.fusion == "concat":
            fused: Tensor = self.join(joined)
            return fused
        weights_VB1GG = self.attention(joined).softmax(dim=1).movedim(1, 0)[:, :, None]
        return (weights_VB1GG * stacked_VBEGG).sum(dim=0)


def _group_norm(channels: int) -> nn.GroupNorm:
    groups = max(channels // 16, 1)
    return nn.GroupNorm(groups if channels % groups == 0 else 1, channels)
