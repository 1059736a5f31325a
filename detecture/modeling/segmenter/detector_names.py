"""Names of the weights of SAM 3's detector, at Meta and in transformers; see `name_map`.

The detector: geometry encoder, DETR decoder, scoring by dot products, and what makes masks of its
queries.
"""

import re

_BOXES, _HF_BOXES = "geometry_encoder.encode.#", "geometry_encoder.layers.#"
_DECODER, _HF_DECODER = "transformer.decoder", "detr_decoder"
_LAYER, _HF_LAYER = f"{_DECODER}.layers.#", f"{_HF_DECODER}.layers.#"
_SCORING, _HF_SCORING = "dot_prod_scoring", "dot_product_scoring"


def _layers(meta: str, transformers: str, count: int) -> tuple[tuple[str, str], ...]:
    """A perceptron: layers 0, 1, .. at Meta, layer1, layer2, .. in transformers."""
    return tuple((f"{meta}.layers.{i}.@", f"{transformers}.layer{i + 1}.@") for i in range(count))


RENAMED = (
    ("geometry_encoder.label_embed.weight", "geometry_encoder.label_embed.weight"),
    ("geometry_encoder.cls_embed.weight", "geometry_encoder.cls_embed.weight"),
    ("geometry_encoder.boxes_direct_project.@", "geometry_encoder.boxes_direct_project.@"),
    ("geometry_encoder.boxes_pool_project.@", "geometry_encoder.boxes_pool_project.@"),
    ("geometry_encoder.boxes_pos_enc_project.@", "geometry_encoder.boxes_pos_enc_project.@"),
    ("geometry_encoder.img_pre_norm.@", "geometry_encoder.vision_layer_norm.@"),
    ("geometry_encoder.final_proj.@", "geometry_encoder.final_proj.@"),
    ("geometry_encoder.norm.@", "geometry_encoder.prompt_layer_norm.@"),
    ("geometry_encoder.encode_norm.@", "geometry_encoder.output_layer_norm.@"),
    (f"{_BOXES}.self_attn.out_proj.@", f"{_HF_BOXES}.self_attn.o_proj.@"),
    (f"{_BOXES}.cross_attn_image.out_proj.@", f"{_HF_BOXES}.cross_attn.o_proj.@"),
    (f"{_BOXES}.linear1.@", f"{_HF_BOXES}.mlp.fc1.@"),
    (f"{_BOXES}.linear2.@", f"{_HF_BOXES}.mlp.fc2.@"),
    (f"{_BOXES}.norm1.@", f"{_HF_BOXES}.layer_norm1.@"),
    (f"{_BOXES}.norm2.@", f"{_HF_BOXES}.layer_norm2.@"),
    (f"{_BOXES}.norm3.@", f"{_HF_BOXES}.layer_norm3.@"),
    (f"{_DECODER}.query_embed.weight", f"{_HF_DECODER}.query_embed.weight"),
    (f"{_DECODER}.reference_points.weight", f"{_HF_DECODER}.reference_points.weight"),
    (f"{_DECODER}.presence_token.weight", f"{_HF_DECODER}.presence_token.weight"),
    (f"{_DECODER}.presence_token_out_norm.@", f"{_HF_DECODER}.presence_layer_norm.@"),
    *_layers(f"{_DECODER}.presence_token_head", f"{_HF_DECODER}.presence_head", 3),
    (f"{_DECODER}.norm.@", f"{_HF_DECODER}.output_layer_norm.@"),
    *_layers(f"{_DECODER}.bbox_embed", f"{_HF_DECODER}.box_head", 3),
    *_layers(f"{_DECODER}.ref_point_head", f"{_HF_DECODER}.ref_point_head", 2),
    *_layers(f"{_DECODER}.boxRPB_embed_x", f"{_HF_DECODER}.box_rpb_embed_x", 2),
    *_layers(f"{_DECODER}.boxRPB_embed_y", f"{_HF_DECODER}.box_rpb_embed_y", 2),
    (f"{_LAYER}.self_attn.out_proj.@", f"{_HF_LAYER}.self_attn.o_proj.@"),
    (f"{_LAYER}.ca_text.out_proj.@", f"{_HF_LAYER}.text_cross_attn.o_proj.@"),
    (f"{_LAYER}.cross_attn.out_proj.@", f"{_HF_LAYER}.vision_cross_attn.o_proj.@"),
    (f"{_LAYER}.linear1.@", f"{_HF_LAYER}.mlp.fc1.@"),
    (f"{_LAYER}.linear2.@", f"{_HF_LAYER}.mlp.fc2.@"),
    (f"{_LAYER}.norm1.@", f"{_HF_LAYER}.vision_cross_attn_layer_norm.@"),
    (f"{_LAYER}.norm2.@", f"{_HF_LAYER}.self_attn_layer_norm.@"),
    (f"{_LAYER}.norm3.@", f"{_HF_LAYER}.mlp_layer_norm.@"),
    (f"{_LAYER}.catext_norm.@", f"{_HF_LAYER}.text_cross_attn_layer_norm.@"),
    *_layers(f"{_SCORING}.prompt_mlp", f"{_HF_SCORING}.text_mlp", 2),
    (f"{_SCORING}.prompt_mlp.out_norm.@", f"{_HF_SCORING}.text_mlp_out_norm.@"),
    (f"{_SCORING}.prompt_proj.@", f"{_HF_SCORING}.text_proj.@"),
    (f"{_SCORING}.hs_proj.@", f"{_HF_SCORING}.query_proj.@"),
    (
        "segmentation_head.mask_predictor.mask_embed.layers.#.@",
        "mask_decoder.mask_embedder.layers.#.@",
    ),
    ("segmentation_head.instance_seg_head.@", "mask_decoder.instance_projection.@"),
)
"""Names at Meta and in transformers, as patterns."""

FUSED = (
    (f"{_BOXES}.self_attn.in_proj_@", f"{_HF_BOXES}.self_attn.?_proj.@"),
    (f"{_BOXES}.cross_attn_image.in_proj_@", f"{_HF_BOXES}.cross_attn.?_proj.@"),
    (f"{_LAYER}.self_attn.in_proj_@", f"{_HF_LAYER}.self_attn.?_proj.@"),
    (f"{_LAYER}.ca_text.in_proj_@", f"{_HF_LAYER}.text_cross_attn.?_proj.@"),
    (f"{_LAYER}.cross_attn.in_proj_@", f"{_HF_LAYER}.vision_cross_attn.?_proj.@"),
)
"""Query, key and value: one tensor at Meta, three in transformers."""

META = re.compile(
    r"transformer\.decoder\.|geometry_encoder\.|dot_prod_scoring\.|"
    r"segmentation_head\.(mask_predictor|instance_seg_head)\."
)
"""Beginnings of the detector's names at Meta,"""

TRANSFORMERS = re.compile(
    r"detr_decoder\.|geometry_encoder\.|dot_product_scoring\.|"
    r"mask_decoder\.(mask_embedder|instance_projection)\."
)
""".. and in transformers."""
