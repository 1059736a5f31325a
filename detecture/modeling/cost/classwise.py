"""Class aggregation: attention between the classes, each patch by itself.

The patches are folded into the batch. Where there are fewer classes than a model was trained for,
a learnt padding class stands for each that is missing. All are alike, so that one is computed and
counted as many times as it is missing; CAT-Seg's code computes them all.

Legend: B images, T classes, N pooled patches, G grid, C channels, D channels of the guidance, H
heads, d = C/H.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.modeling.cost.spatial import GuidedLinear

_TINY = 1e-6


class ClassAggregation(nn.Module):
    """Pre-norm attention without an output projection, and a perceptron, on pooled patches."""

    def __init__(
        self, width: int, guidance: int, heads: int, *, linear: bool = True, padded_to: int = 256
    ) -> None:
        """Make the layers.

        Args:
            width: C.
            guidance: D.
            heads: H.
            linear: linear attention (elu + 1); else softmax.
            padded_to: classes that there are at least, padding counted.
        """
        super().__init__()
        self.heads, self.linear, self.padded_to = heads, linear, padded_to
        self.norm1 = nn.LayerNorm(width)
        self.query = GuidedLinear(width, guidance, width)
        self.key = GuidedLinear(width, guidance, width)
        self.value = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        self.padding_token = nn.Parameter(torch.zeros(width))
        self.padding_guidance = nn.Parameter(torch.zeros(guidance))

    def forward(
        self,
        x_BCTGG: Tensor,
        guidance_BTD: Tensor,
        pooling: Sequence[int],
        chunk: int = 10**6,
    ) -> Tensor:
        """Cost (B,C,T,G,G) to the same.

        Args:
            x_BCTGG: of any number of classes.
            guidance_BTD: of the texts.
            pooling: factors by which the patches are averaged first, (2, 2) or (1, 1).
            chunk: bounds the memory: as many values at a time as so many classes have.
        """
        batch, width, classes, *grid = x_BCTGG.shape
        pooled = x_BCTGG
        if tuple(pooling) != (1, 1):
            pooled = functional.avg_pool2d(x_BCTGG.flatten(0, 1), tuple(pooling))
            pooled = pooled.unflatten(0, (batch, width))
        small = pooled.shape[-2:]
        x_BNTC = pooled.flatten(3).permute(0, 3, 2, 1)
        # Patches do not meet here.
        patches = max(chunk * x_BNTC.shape[1] // classes, 1)
        back = torch.cat(
            [self.meet(part, guidance_BTD) for part in x_BNTC.split(patches, dim=1)], dim=1
        )
        back = back.permute(0, 3, 2, 1).unflatten(3, small)
        if tuple(small) != tuple(grid):
            back = functional.interpolate(
                back.flatten(0, 1), grid, mode="bilinear", align_corners=True
            ).unflatten(0, (batch, width))
        # The pooled part has its own residual already; so it was in the weights that are loaded.
        return x_BCTGG + back

    def meet(self, x_BNTC: Tensor, guidance_BTD: Tensor) -> Tensor:
        """Patches (B,N,T,C) to the same, after their classes have met; guidance (B,T,D)."""
        x_BNTC = x_BNTC.contiguous()
        x_BNTC = x_BNTC + self._attention(self.norm1(x_BNTC), guidance_BTD)
        mixed: Tensor = x_BNTC + self.mlp(self.norm2(x_BNTC))
        return mixed

    def _attention(self, normed_BNTC: Tensor, guidance_BTD: Tensor) -> Tensor:
        """Patches (B,N,T,C) to what the classes tell each other there, (B,N,T,C)."""
        query = self.query(normed_BNTC, self.query.of_guidance(guidance_BTD)[:, None])
        key = self.key(normed_BNTC, self.key.of_guidance(guidance_BTD)[:, None])
        value = self.value(normed_BNTC)
        missing = max(self.padded_to - normed_BNTC.shape[2], 0)
        q, k, v = (self._by_head(part) for part in (query, key, value))
        padding = self._padding() if missing else None
        if padding is None and torch.is_grad_enabled():
            # Their gradients are zero, not absent: processes wait for those of all that trains.
            v = v + 0.0 * (self.padding_token.sum() + self.padding_guidance.sum())
        if self.linear:
            return self._linear(q, k, v, padding, missing)
        return self._softmax(q, k, v, padding, missing)

    def _padding(self) -> tuple[Tensor, Tensor]:
        """Key and value (H,d) of one padding class."""
        normed = self.norm1(self.padding_token)
        key = self.key(normed, self.key.of_guidance(self.padding_guidance))
        return key.reshape(self.heads, -1), self.value(normed).reshape(self.heads, -1)

    def _by_head(self, x_BNTC: Tensor) -> Tensor:
        """(B,N,H,T,d)."""
        return x_BNTC.unflatten(-1, (self.heads, -1)).transpose(2, 3)

    def _linear(
        self, q: Tensor, k: Tensor, v: Tensor, padding: tuple[Tensor, Tensor] | None, missing: int
    ) -> Tensor:
        """(B,N,H,T,d) each to (B,N,T,C): sum of phi(q).phi(k) v over the sum of phi(q).phi(k)."""
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        memory, weight = k.transpose(-1, -2) @ v, k.sum(dim=-2)
        if padding is not None:
            key = functional.elu(padding[0]) + 1
            memory = memory + missing * key[:, :, None] * padding[1][:, None]
            weight = weight + missing * key
        total = (q @ weight[..., None]) + _TINY
        return ((q @ memory) / total).transpose(2, 3).flatten(-2)

    def _softmax(
        self, q: Tensor, k: Tensor, v: Tensor, padding: tuple[Tensor, Tensor] | None, missing: int
    ) -> Tensor:
        """(B,N,H,T,d) each to (B,N,T,C); padding is one more key, as heavy as it is often."""
        mask = None
        if padding is not None:
            key, value = (part[None, None, :, None].expand(*q.shape[:3], 1, -1) for part in padding)
            k, v = torch.cat([k, key], dim=3), torch.cat([v, value], dim=3)
            mask = torch.zeros(k.shape[3], device=q.device, dtype=q.dtype)
            mask[-1] = float(torch.tensor(float(missing)).log())
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return mixed.transpose(2, 3).flatten(-2)
