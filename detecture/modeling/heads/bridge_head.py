"""The Bridge head: from region states of a VLM to slot logits of a segmenter.

Legend: B images, K regions, Q slots of one image (the dustbin first), N active slots of all
images, C hidden size of the VLM, D width of the segmenter, M pixel embeddings, h, w their size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detecture.config.sections.detecture import BridgeSettings
from detecture.d2 import SEM_SEG_HEADS_REGISTRY, CfgNode, configurable
from detecture.modeling.registry import build_registered
from detecture.modeling.segmenter import ImageFeatures, Segmenter


@dataclass(frozen=True)
class HeadShape:
    """Widths that a head connects.

    Attributes:
        hidden_size: of the VLM's states.
        text_width: of the segmenter's text encoder, in front of its text projection.
        width: of the segmenter's prompts and pixel embeddings.
    """

    hidden_size: int
    text_width: int
    width: int


@dataclass(frozen=True)
class SlotLogits:
    """Logits of all active slots of a batch.

    Attributes:
        logits_Nhw: float.
        image_index_N: int64, the image that a slot belongs to; ascending.
        slot_index_N: int64, 0 the dustbin, i texture i.
        embedding_BEhw: of each image, what its queries' dot products are taken with; under
            `multiplexed` that of its dustbin, whose prompt is the same in every image. None
            where it was not asked for.
    """

    logits_Nhw: Tensor
    image_index_N: Tensor
    slot_index_N: Tensor
    embedding_BEhw: Tensor | None = None


def build_head(cfg: CfgNode, shape: HeadShape) -> nn.Module:
    """The head of MODEL.SEM_SEG_HEAD.NAME.

    Raises:
        ConfigError: none of this name is registered.
    """
    name = cfg.MODEL.SEM_SEG_HEAD.NAME
    return build_registered(SEM_SEG_HEADS_REGISTRY, name, "MODEL.SEM_SEG_HEAD.NAME", cfg, shape)


class MaskHead(nn.Module):
    """Scores of pixels against a query: a dot product behind an MLP and a 1x1 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.pixel_head = nn.Conv2d(width, width, 1)

    def forward(self, queries_ND: Tensor, pixels_MDhw: Tensor, pixels_of_N: Tensor) -> Tensor:
        """Logits (N,h,w) of N queries, query n on the pixel embeddings `pixels_of_N[n]`."""
        return self.scores_and_pixels(queries_ND, pixels_MDhw, pixels_of_N)[0]

    def scores_and_pixels(
        self, queries_ND: Tensor, pixels_MDhw: Tensor, pixels_of_N: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and what the logits are dot products with.

        Args:
            queries_ND: the queries.
            pixels_MDhw: pixel embeddings of the segmenter.
            pixels_of_N: int64, which of the M query n is scored on; not read where M is N.

        Returns:
            Logits (N,h,w), and the pixel embeddings (M,D,h,w) behind the convolution.
        """
        queries_ND = self.query_mlp(queries_ND)
        pixels_MDhw = self.pixel_head(pixels_MDhw)
        if len(pixels_MDhw) == len(queries_ND):  # each has its own: no copy of them
            return torch.einsum("nd,ndhw->nhw", queries_ND, pixels_MDhw), pixels_MDhw
        logits_Nhw = torch.einsum("nd,ndhw->nhw", queries_ND, pixels_MDhw[pixels_of_N])
        return logits_Nhw, pixels_MDhw


@SEM_SEG_HEADS_REGISTRY.register()
class BridgeHead(nn.Module):
    """Bridge, dustbin and mask head (specification of the model, section 2)."""

    @configurable
    def __init__(
        self,
        *,
        shape: HeadShape,
        settings: BridgeSettings | None = None,
    ) -> None:
        """Build it.

        Args:
            shape: widths on both sides.
            settings: see the MODEL.BRIDGE keys.
        """
        super().__init__()
        settings = settings or BridgeSettings()
        self.kind = kind = settings.kind
        self.decoding = settings.decoding
        inner = shape.text_width if kind == "native" else max(shape.hidden_size // 8, 1)
        layers = [
            nn.Linear(shape.hidden_size, inner),
            nn.LayerNorm(inner),
            nn.GELU(),
            nn.Dropout(settings.dropout),
        ]
        if kind == "bottleneck":
            layers.append(nn.Linear(inner, shape.width))
        self.bridge = nn.Sequential(*layers)
        self.mask_head = MaskHead(shape.width)
        self.dustbin = nn.Parameter(torch.empty(shape.hidden_size))
        nn.init.normal_(self.dustbin, std=0.02)

    @classmethod
    def from_config(cls, cfg: CfgNode, shape: HeadShape) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return {"shape": shape, "settings": BridgeSettings.from_config(cfg)}

    def named_parts(self) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
        """What trains with a learning rate of its own."""
        yield "bridge", self.bridge
        yield "mask_head", self.mask_head
        yield "dustbin", self.dustbin

    def forward(
        self,
        segmenter: Segmenter,
        features: ImageFeatures,
        states_BKC: Tensor,
        count_B: Tensor,
        *,
        with_embedding: bool = False,
    ) -> SlotLogits:
        """Logits of the active slots: of each image the dustbin and its first `count_B` states.

        Args:
            segmenter: gives the pixel embeddings.
            features: its image features of the B images.
            states_BKC: region states; rows past the count are not looked at.
            count_B: int64, 0..K.
            with_embedding: return `embedding_BEhw` too.
        """
        states_BKC = states_BKC.to(self.dustbin.dtype)
        dustbin_B1C = self.dustbin.expand(len(states_BKC), 1, -1)
        states_BQC = torch.cat([dustbin_B1C, states_BKC], dim=1)
        slot_Q = torch.arange(states_BQC.shape[1], device=count_B.device)
        active_BQ = slot_Q <= count_B[:, None]
        image_index_N, slot_index_N = active_BQ.nonzero(as_tuple=True)
        queries_ND = self.bridge(states_BQC[active_BQ])
        if self.kind == "native":
            queries_ND = segmenter.project_text(queries_ND)
        if self.decoding == "multiplexed":
            pixels = segmenter.pixel_embeddings(features, image_index_N, queries_ND[:, None])
        elif self.decoding == "pointing":
            every_B = torch.arange(len(count_B), device=count_B.device)
            prompt_B1D = queries_ND[slot_index_N == 0][:, None]
            pixels = segmenter.pixel_embeddings(features, every_B, prompt_B1D)
        else:
            prompt_BQD = queries_ND.new_zeros(*active_BQ.shape, queries_ND.shape[-1])
            prompt_BQD = prompt_BQD.index_put((image_index_N, slot_index_N), queries_ND)
            every_B = torch.arange(len(count_B), device=count_B.device)
            pixels = segmenter.pixel_embeddings(features, every_B, prompt_BQD, active_BQ)
        if not torch.is_autocast_enabled(pixels.device.type):  # which picks types itself
            # A frozen segmenter may be in half precision, this head never is.
            queries_ND, pixels = queries_ND.to(states_BKC.dtype), pixels.to(states_BKC.dtype)
        logits_Nhw, embedding = self.mask_head.scores_and_pixels(queries_ND, pixels, image_index_N)
        if self.decoding == "multiplexed" and with_embedding:
            embedding = embedding[slot_index_N == 0]
        return SlotLogits(
            logits_Nhw, image_index_N, slot_index_N, embedding if with_embedding else None
        )
