"""The head of open-vocabulary segmentation: CLIP's features and names in, logits of masks out.

Legend: B images, T names, P templates, E width of the common space, W visual width of CLIP, G grid,
X further cost channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from detecture.config.sections.semantic import CostAggregationSettings
from detecture.d2 import SEM_SEG_HEADS_REGISTRY, CfgNode, configurable
from detecture.modeling.cost.aggregator import AggregatorShape, CostAggregator


@dataclass(frozen=True)
class CostHeadShape:
    """What a head is built for.

    Attributes:
        width: W.
        embed_width: E.
        grid: G.
        templates: P.
        extra_costs: X.
    """

    width: int
    embed_width: int
    grid: int
    templates: int = 1
    extra_costs: int = 0


@SEM_SEG_HEADS_REGISTRY.register()
class CostAggregationHead(nn.Module):
    """CAT-Seg's: two layers of CLIP, enlarged, guide the decoder of the aggregated cost.

    The layer at one third of CLIP guides the first stage of the decoder and that at two thirds the
    second, as in CAT-Seg's code; its paper says the reverse.
    """

    @configurable
    def __init__(self, shape: CostHeadShape, settings: CostAggregationSettings) -> None:
        """Make the layers.

        Args:
            shape: of what comes in.
            settings: sizes of the aggregator.
        """
        super().__init__()
        first, second = settings.decoder_guidance
        self.enlarge = nn.ModuleList(
            (
                nn.ConvTranspose2d(shape.width, first, 2, stride=2),
                nn.ConvTranspose2d(shape.width, second, 4, stride=4),
            )
        )
        self.aggregator = CostAggregator(
            AggregatorShape(
                embed_width=shape.embed_width,
                grid=shape.grid,
                templates=shape.templates,
                extra_costs=shape.extra_costs,
                hidden=settings.hidden,
                layers=settings.layers,
                heads=settings.heads,
                window=settings.window,
                linear_attention=settings.attention == "linear",
                text_guidance=settings.text_guidance,
                image_guidance=settings.image_guidance,
                decoder=settings.decoder,
                decoder_guidance=settings.decoder_guidance,
                decoder_guidance_projected=settings.decoder_guidance_projected,
                most_classes=settings.most_classes,
            )
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, shape: CostHeadShape) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return {"shape": shape, "settings": CostAggregationSettings.from_config(cfg)}

    def forward(
        self,
        tokens_BEGG: Tensor,
        appearance_BEGG: Tensor,
        layers: Sequence[Tensor],
        text_TPE: Tensor,
        *,
        pooling: Sequence[int],
        extra_BXTGG: Tensor | None = None,
        chunk: int = 10**6,
    ) -> Tensor:
        """Logits (B,T,4*G,4*G); see `CostAggregator`.

        Args:
            tokens_BEGG: patches that the cost is taken of.
            appearance_BEGG: patches that guide its aggregation.
            layers: two of CLIP, (B,W,G,G).
            text_TPE: names.
            pooling: of the class aggregation.
            extra_BXTGG: further cost channels.
            chunk: names at a time where they do not meet.
        """
        guidance = [one(layer) for one, layer in zip(self.enlarge, layers, strict=True)]
        logits: Tensor = self.aggregator(
            tokens_BEGG,
            appearance_BEGG,
            guidance,
            text_TPE,
            pooling=pooling,
            extra_BXTGG=extra_BXTGG,
            chunk=chunk,
        )
        return logits
