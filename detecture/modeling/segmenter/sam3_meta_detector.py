"""The detector of Meta's SAM 3, assembled from the submodules of the `sam3` package.

Imported only when one is built. Legend as in interface.py; L = h*w tokens of the coarsest level,
Q queries, R boxes.
"""

from contextlib import nullcontext
from typing import Any, cast

import torch
from sam3.model.box_ops import box_cxcywh_to_xyxy
from sam3.model.decoder import TransformerDecoder, TransformerDecoderLayer
from sam3.model.encoder import TransformerEncoderLayer
from sam3.model.geometry_encoders import Prompt, SequenceGeometryEncoder
from sam3.model.model_misc import (
    MLP,
    DotProductScoring,
    MultiheadAttentionWrapper,
    inverse_sigmoid,
)
from sam3.model.position_encoding import PositionEmbeddingSine
from torch import Tensor, nn
from torchvision.ops import roi_align


class BoxEncoder(SequenceGeometryEncoder):
    """The package's geometry encoder, for boxes alone and on every device and in every type."""

    def _encode_points(
        self, points: Tensor, points_mask: Tensor, points_labels: Tensor, img_feats: Tensor
    ) -> tuple[Tensor, Tensor]:
        """No points (0,N,2): embeddings (0,N,D) of them, and their mask (N,0).

        `img_feats` (N,D,h,w) are not looked at.
        """
        return points.new_zeros((0, points.shape[1], self.d_model)), points_mask

    def _encode_boxes(
        self, boxes: Tensor, boxes_mask: Tensor, boxes_labels: Tensor, img_feats: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (R,N,D) of boxes, and their mask as it was.

        Args:
            boxes: (R,N,4), centre x, centre y, width and height, as shares of the image.
            boxes_mask: bool (N,R), True on padding.
            boxes_labels: int64 (R,N), 1 for a positive example.
            img_feats: (N,D,h,w), the coarsest level.
        """
        # The package's own pins memory, which needs an accelerator, and mixes types.
        boxes_RN4, features_NDhw = boxes, img_feats
        height, width = features_NDhw.shape[-2:]
        exact = torch.promote_types(features_NDhw.dtype, torch.float32)
        size_4 = boxes_RN4.new_tensor([width, height, width, height], dtype=exact)
        corners_RN4 = box_cxcywh_to_xyxy(boxes_RN4.to(exact)) * size_4
        pooled = roi_align(
            features_NDhw.to(exact), list(corners_RN4.transpose(0, 1)), self.roi_size
        ).to(features_NDhw.dtype)
        pooled_NRD = self.boxes_pool_project(pooled).view(-1, len(boxes_RN4), self.d_model)
        places = self.pos_enc.encode_boxes(*boxes_RN4.flatten(0, 1).unbind(-1))
        places_RND = self.boxes_pos_enc_project(
            places.to(boxes_RN4.dtype).view(*boxes_RN4.shape[:2], -1)
        )
        embedded_RND = self.boxes_direct_project(boxes_RN4) + pooled_NRD.transpose(0, 1)
        return self.label_embed(boxes_labels) + embedded_RND + places_RND, boxes_mask


class QueryDecoderLayer(TransformerDecoderLayer):
    """The package's decoder layer, whose feed-forward part keeps its precision on every device."""

    def forward_ffn(self, tgt: Tensor) -> Tensor:
        """As the package's, which leaves autocast on one kind of device only: (..,D) to (..,D)."""
        kind = tgt.device.type
        known = torch.amp.is_autocast_available(kind)
        with torch.autocast(kind, enabled=False) if known else nullcontext():
            hidden = self.activation(self.linear1(tgt.to(self.linear1.weight.dtype)))
            added = self.linear2(self.dropout3(hidden))
        return cast("Tensor", self.norm3(tgt + self.dropout4(added)))


def box_encoder(config: Any) -> BoxEncoder:
    """The geometry encoder, without what encodes points."""
    encoder = BoxEncoder(
        encode_boxes_as_points=False,
        points_direct_project=True,  # it insists on one way to encode points
        points_pool=False,
        points_pos_enc=False,
        boxes_direct_project=True,
        boxes_pool=True,
        boxes_pos_enc=True,
        d_model=config.hidden_size,
        pos_enc=PositionEmbeddingSine(num_pos_feats=config.hidden_size, normalize=True),
        num_layers=config.num_layers,
        layer=TransformerEncoderLayer(
            activation="relu",
            d_model=config.hidden_size,
            dim_feedforward=config.intermediate_size,
            dropout=config.dropout,
            pos_enc_at_attn=False,
            pos_enc_at_cross_attn_keys=True,
            pos_enc_at_cross_attn_queries=False,
            pre_norm=True,
            self_attention=_attention(config),
            cross_attention=_attention(config),
        ),
        roi_size=config.roi_size,
    )
    encoder.points_direct_project = None
    return encoder


def query_decoder(config: Any) -> TransformerDecoder:
    """The DETR decoder, for features of any size."""
    return TransformerDecoder(
        d_model=config.hidden_size,
        frozen=False,
        interaction_layer=None,
        layer=QueryDecoderLayer(
            activation="relu",
            d_model=config.hidden_size,
            dim_feedforward=config.intermediate_size,
            dropout=config.dropout,
            cross_attention=_attention(config),
            n_heads=config.num_attention_heads,
            use_text_cross_attention=True,
        ),
        num_layers=config.num_layers,
        num_queries=config.num_queries,
        return_intermediate=True,
        box_refine=True,
        boxRPB="log",
        presence_token=True,
        use_act_checkpoint=True,  # it insists on that in training mode
    )


def scoring(config: Any) -> DotProductScoring:
    """What compares queries with the prompt."""
    width = config.hidden_size
    mlp = MLP(
        width,
        config.intermediate_size,
        width,
        num_layers=2,
        dropout=config.dropout,
        residual=True,
        out_norm=nn.LayerNorm(width),
    )
    return DotProductScoring(d_model=width, d_proj=width, prompt_mlp=mlp)


def encode_boxes(
    encoder: Any, coarsest_NDhw: Tensor, positions_1Dhw: Tensor, boxes_NR4: Tensor, mask_NR: Tensor
) -> tuple[Tensor, Tensor]:
    """Boxes as prompts (N,T,D) and their mask (N,T), True on real tokens."""
    prompt = Prompt(box_embeddings=boxes_NR4.transpose(0, 1), box_mask=~mask_NR)
    encoded_TND, is_padding_NT = encoder(
        prompt,
        [coarsest_NDhw.flatten(2).permute(2, 0, 1)],
        [coarsest_NDhw.shape[-2:]],
        [positions_1Dhw.flatten(2).permute(2, 0, 1)],
    )
    return encoded_TND.transpose(0, 1), ~is_padding_NT


def decode(
    decoder: Any,
    scoring: Any,
    coarsest_NDhw: Tensor,
    memory_NLD: Tensor,
    positions_1Dhw: Tensor,
    prompt_NTD: Tensor,
    is_padding_NT: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """States (N,Q,D), scores (N,Q) and boxes (N,Q,4), as corners, of the queries."""
    count = len(memory_NLD)
    # The package keeps coordinates by size alone, whatever device the next ones are for.
    decoder.compilable_cord_cache = decoder.compilable_stored_size = None
    decoder.coord_cache.clear()
    weight = decoder.query_embed.weight
    # It mixes in single precision, which half-precision weights take under autocast alone.
    halved = weight.dtype in (torch.bfloat16, torch.float16)
    with torch.autocast(weight.device.type, weight.dtype) if halved else nullcontext():
        states, references, presence, _ = decoder(
            tgt=weight[:, None].expand(-1, count, -1),
            memory=memory_NLD.transpose(0, 1),
            pos=positions_1Dhw.flatten(2).permute(2, 0, 1),
            spatial_shapes=torch.tensor([coarsest_NDhw.shape[-2:]]),
            valid_ratios=memory_NLD.new_ones((count, 1, 2)),
            memory_text=prompt_NTD.transpose(0, 1),
            text_attention_mask=is_padding_NT,
        )
        prompt_TND, last_1NQD = prompt_NTD.transpose(0, 1), states[-1:].transpose(1, 2)
        logits_NQ = scoring(last_1NQD, prompt_TND, is_padding_NT)[0, ..., 0]
        query_NQD = states[-1].transpose(0, 1)
        moved_NQ4 = decoder.bbox_embed(query_NQD) + inverse_sigmoid(references[-1].transpose(0, 1))
    # The package means to clamp this, and throws the result away.
    most = decoder.clamp_presence_logit_max_val
    presence_N1 = presence[-1].transpose(0, 1).clamp(-most, most)
    scores_NQ = logits_NQ.sigmoid() * presence_N1.sigmoid()
    boxes_NQ4 = box_cxcywh_to_xyxy(moved_NQ4.sigmoid())
    kind = memory_NLD.dtype
    return query_NQD.to(kind), scores_NQ.to(kind), boxes_NQ4.to(kind)


def _attention(config: Any) -> MultiheadAttentionWrapper:
    return MultiheadAttentionWrapper(config.hidden_size, config.num_attention_heads)
