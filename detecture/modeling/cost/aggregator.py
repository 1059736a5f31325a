"""From cosines between patches and texts to logits: CAT-Seg's aggregator.

Legend: B images, T classes, P templates of each, E width of the common space, G grid, N = G*G
patches, g side of logits, C channels, D channels of a guidance, X further cost channels, L classes
that are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.modeling.cost.classwise import ClassAggregation
from detecture.modeling.cost.decoder import Decoder
from detecture.modeling.cost.spatial import SpatialAggregation

NOT_CONSIDERED = -100.0
"""Logit of a class that was left out because there are more than are aggregated at a time."""


@dataclass(frozen=True)
class AggregatorShape:
    """Sizes of an aggregator.

    Attributes:
        embed_width: E.
        grid: G.
        templates: P.
        extra_costs: X.
        hidden: C.
        layers: of spatial and class aggregation.
        heads: of the attention.
        window: of the spatial attention, in patches.
        linear_attention: between classes.
        text_guidance: channels that texts are projected to; 0: no guidance.
        image_guidance: channels that patches are projected to; 0: no guidance.
        decoder: channels after each stage of the decoder.
        decoder_guidance: channels of the features that guide it.
        decoder_guidance_projected: channels that they are projected to.
        most_classes: that are aggregated at a time; with fewer, the rest is padding.
    """

    embed_width: int
    grid: int = 24
    templates: int = 1
    extra_costs: int = 0
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    window: int = 12
    linear_attention: bool = True
    text_guidance: int = 128
    image_guidance: int = 128
    decoder: tuple[int, int] = (64, 32)
    decoder_guidance: tuple[int, int] = (256, 128)
    decoder_guidance_projected: tuple[int, int] = (32, 16)
    most_classes: int = 256


class AggregatorLayer(nn.Module):
    """Between patches, then between classes."""

    def __init__(self, shape: AggregatorShape) -> None:
        """Make the layers."""
        super().__init__()
        self.spatial = SpatialAggregation(
            shape.hidden, shape.image_guidance, shape.heads, shape.grid, shape.window
        )
        self.classwise = ClassAggregation(
            shape.hidden,
            shape.text_guidance,
            shape.heads,
            linear=shape.linear_attention,
            padded_to=shape.most_classes,
        )

    def forward(
        self,
        x_BTNC: Tensor,
        image_BND: Tensor | None,
        text_BTD: Tensor,
        pooling: Sequence[int],
        chunk: int,
    ) -> Tensor:
        """Cost (B,T,N,C) to the same; so much at a time as `chunk` classes have."""
        x_BTNC = _joined(
            [self.spatial(part.contiguous(), image_BND) for part in x_BTNC.split(chunk, dim=1)]
        )
        done = self.classwise(as_maps(x_BTNC), text_BTD, pooling, chunk)
        return as_tokens(done)


class CostAggregator(nn.Module):
    """Cost volume, aggregation, decoder."""

    def __init__(self, shape: AggregatorShape) -> None:
        """Make the layers."""
        super().__init__()
        self.shape = shape
        costs = shape.templates + shape.extra_costs
        self.embed = nn.Conv2d(costs, shape.hidden, 7, padding=3)
        with torch.no_grad():
            self.embed.weight[:, shape.templates :].zero_()  # what is further does nothing as yet
        self.image_projection = nn.Sequential(
            nn.Conv2d(shape.embed_width, shape.image_guidance, 3, padding=1), nn.ReLU()
        )
        self.text_projection = nn.Sequential(
            nn.Linear(shape.embed_width, shape.text_guidance), nn.ReLU()
        )
        self.layers = nn.ModuleList(AggregatorLayer(shape) for _ in range(shape.layers))
        self.decoder = Decoder(
            shape.hidden,
            shape.decoder,
            shape.decoder_guidance,
            shape.decoder_guidance_projected,
        )

    def forward(
        self,
        tokens_BEGG: Tensor,
        appearance_BEGG: Tensor,
        guidance: Sequence[Tensor],
        text_TPE: Tensor,
        *,
        pooling: Sequence[int],
        extra_BXTGG: Tensor | None = None,
        chunk: int = 10**6,
    ) -> Tensor:
        """Logits of every class.

        Args:
            tokens_BEGG: patches in the common space, that the cost is taken of.
            appearance_BEGG: patches that guide the aggregation; CAT-Seg's are the same.
            guidance: of the decoder, (B,D,2*G,2*G) and (B,D,4*G,4*G).
            text_TPE: texts in the common space.
            pooling: see `ClassAggregation`.
            extra_BXTGG: further cost channels.
            chunk: classes at a time where they do not meet; bounds the memory.

        Returns:
            (B,T,4*G,4*G); `NOT_CONSIDERED` for classes beyond the `most_classes` that fit best.
        """
        cost_BPTGG = cost_volume(tokens_BEGG, text_TPE)
        if extra_BXTGG is not None:
            cost_BPTGG = torch.cat([cost_BPTGG, extra_BXTGG], dim=1)
        image_BND = self.image_projection(appearance_BEGG).flatten(2).transpose(1, 2)
        text = functional.normalize(text_TPE.mean(dim=1), dim=-1)
        text_BTD = self.text_projection(text).expand(len(tokens_BEGG), -1, -1)
        projected = self.decoder.project(guidance)
        most = self.shape.most_classes
        if len(text_TPE) <= most:
            return self._aggregate(cost_BPTGG, image_BND, text_BTD, projected, pooling, chunk)
        side = 4 * tokens_BEGG.shape[-1]
        logits = cost_BPTGG.new_full((len(tokens_BEGG), len(text_TPE), side, side), NOT_CONSIDERED)
        for row in range(len(tokens_BEGG)):
            # Each image has classes of its own that fit best.
            one = slice(row, row + 1)
            kept_T = best_classes(cost_BPTGG[row, : self.shape.templates], most)
            logits[row, kept_T] = self._aggregate(
                cost_BPTGG[one][:, :, kept_T],
                image_BND[one],
                text_BTD[one][:, kept_T],
                [part[one] for part in projected],
                pooling,
                chunk,
            )[0]
        return logits

    def _aggregate(
        self,
        cost_BPTGG: Tensor,
        image_BND: Tensor,
        text_BTD: Tensor,
        projected: Sequence[Tensor],
        pooling: Sequence[int],
        chunk: int,
    ) -> Tensor:
        """Logits (B,T,4*G,4*G) of classes that all fit; `projected` as `Decoder.project` gives.

        Those have the shapes (B,D,2*G,2*G) and (B,D,4*G,4*G).
        """
        x_BTNC = _joined([as_tokens(self._embed(part)) for part in cost_BPTGG.split(chunk, dim=2)])
        for layer in self.layers:
            x_BTNC = layer(x_BTNC, image_BND, text_BTD, pooling, chunk)
        return _joined(
            [
                self.decoder(as_maps(part.contiguous()).transpose(1, 2), projected)
                for part in x_BTNC.split(chunk, dim=1)
            ]
        )

    def _embed(self, cost_BPTGG: Tensor) -> Tensor:
        """(B,P,T,G,G) to (B,C,T,G,G), each class by itself."""
        batch, _, classes = cost_BPTGG.shape[:3]
        embedded: Tensor = self.embed(cost_BPTGG.transpose(1, 2).flatten(0, 1))
        return embedded.unflatten(0, (batch, classes)).transpose(1, 2)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts, (B,T,N,C) or (B,T,g,g) of some classes each, as one; a caller keeps no list."""
    return torch.cat(tuple(parts), dim=1) if len(parts) > 1 else parts[0]


def as_tokens(x_BCTGG: Tensor) -> Tensor:
    """Maps (B,C,T,G,G) as tokens (B,T,N,C), in the same memory."""
    return x_BCTGG.flatten(3).permute(0, 2, 3, 1)


def as_maps(x_BTNC: Tensor) -> Tensor:
    """The reverse: tokens (B,T,N,C) as maps (B,C,T,G,G)."""
    side = round(x_BTNC.shape[2] ** 0.5)
    return x_BTNC.permute(0, 3, 1, 2).unflatten(3, (side, side))


def cost_volume(tokens_BEGG: Tensor, text_TPE: Tensor) -> Tensor:
    """Cosines (B,P,T,G,G) of patches (B,E,G,G) and texts (T,P,E), without any scale."""
    tokens = functional.normalize(tokens_BEGG, dim=1)
    text = functional.normalize(text_TPE, dim=-1)
    return torch.einsum("behw,tpe->bpthw", tokens, text)


def best_classes(cost_PTGG: Tensor, count: int) -> Tensor:
    """Indices of the L = `count` classes with the greatest cosine anywhere, ascending, (L,)."""
    best_T = cost_PTGG.amax(dim=(0, 2, 3))
    return best_T.topk(count).indices.sort().values
