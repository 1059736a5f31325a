"""Names of SAM 2's weights in Meta's checkpoint and in transformers: one to the other, strictly.

What prompts and masks of a single image need is mapped; what is known to be the video memory's is
passed over, and any other name is an error. The patterns are those of
`detecture.modeling.weights.name_rules`.

Source: the names in Meta's `sam2` package (Hiera, FpnNeck, PromptEncoder, MaskDecoder, SAM2Base).
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from detecture.errors import CheckpointError
from detecture.modeling.weights.name_rules import NameRules, rename, swap


def _mlp(meta: str, hf: str, depth: int) -> NameRules:
    """Meta numbers the layers of an MLP through; transformers names the first and the last."""
    inner = tuple((f"{meta}.layers.{i}.@", f"{hf}.layers.{i - 1}.@") for i in range(1, depth - 1))
    first = (f"{meta}.layers.0.@", f"{hf}.proj_in.@")
    return (first, *inner, (f"{meta}.layers.{depth - 1}.@", f"{hf}.proj_out.@"))


def _attention(meta: str, hf: str) -> NameRules:
    parts = tuple((f"{meta}.{p}_proj.@", f"{hf}.{p}_proj.@") for p in "qkv")
    return (*parts, (f"{meta}.out_proj.@", f"{hf}.o_proj.@"))


_TRUNK, _HF_TRUNK = "image_encoder.trunk", "vision_encoder.backbone"
_BLOCK, _HF_BLOCK = f"{_TRUNK}.blocks.#", f"{_HF_TRUNK}.blocks.#"
_PROMPT, _HF_PROMPT = "sam_prompt_encoder", "prompt_encoder"
_DECODER, _HF_DECODER = "sam_mask_decoder", "mask_decoder"
_TWO_WAY, _HF_TWO_WAY = f"{_DECODER}.transformer", f"{_HF_DECODER}.transformer"
_LAYER, _HF_LAYER = f"{_TWO_WAY}.layers.#", f"{_HF_TWO_WAY}.layers.#"

_RENAMED: NameRules = (
    (f"{_TRUNK}.pos_embed", f"{_HF_TRUNK}.pos_embed"),
    (f"{_TRUNK}.pos_embed_window", f"{_HF_TRUNK}.pos_embed_window"),
    (f"{_TRUNK}.patch_embed.proj.@", f"{_HF_TRUNK}.patch_embed.projection.@"),
    (f"{_BLOCK}.norm1.@", f"{_HF_BLOCK}.layer_norm1.@"),
    (f"{_BLOCK}.norm2.@", f"{_HF_BLOCK}.layer_norm2.@"),
    (f"{_BLOCK}.attn.qkv.@", f"{_HF_BLOCK}.attn.qkv.@"),
    (f"{_BLOCK}.attn.proj.@", f"{_HF_BLOCK}.attn.proj.@"),
    (f"{_BLOCK}.proj.@", f"{_HF_BLOCK}.proj.@"),
    *_mlp(f"{_BLOCK}.mlp", f"{_HF_BLOCK}.mlp", 2),
    ("image_encoder.neck.convs.#.conv.@", "vision_encoder.neck.convs.#.@"),
    ("no_mem_embed", "no_memory_embedding"),
    (f"{_PROMPT}.not_a_point_embed.weight", f"{_HF_PROMPT}.not_a_point_embed.weight"),
    (f"{_PROMPT}.no_mask_embed.weight", f"{_HF_PROMPT}.no_mask_embed.weight"),
    (f"{_PROMPT}.mask_downscaling.0.@", f"{_HF_PROMPT}.mask_embed.conv1.@"),
    (f"{_PROMPT}.mask_downscaling.1.@", f"{_HF_PROMPT}.mask_embed.layer_norm1.@"),
    (f"{_PROMPT}.mask_downscaling.3.@", f"{_HF_PROMPT}.mask_embed.conv2.@"),
    (f"{_PROMPT}.mask_downscaling.4.@", f"{_HF_PROMPT}.mask_embed.layer_norm2.@"),
    (f"{_PROMPT}.mask_downscaling.6.@", f"{_HF_PROMPT}.mask_embed.conv3.@"),
    (f"{_DECODER}.iou_token.weight", f"{_HF_DECODER}.iou_token.weight"),
    (f"{_DECODER}.mask_tokens.weight", f"{_HF_DECODER}.mask_tokens.weight"),
    (f"{_DECODER}.obj_score_token.weight", f"{_HF_DECODER}.obj_score_token.weight"),
    *_attention(f"{_LAYER}.self_attn", f"{_HF_LAYER}.self_attn"),
    *_attention(f"{_LAYER}.cross_attn_token_to_image", f"{_HF_LAYER}.cross_attn_token_to_image"),
    *_attention(f"{_LAYER}.cross_attn_image_to_token", f"{_HF_LAYER}.cross_attn_image_to_token"),
    *_mlp(f"{_LAYER}.mlp", f"{_HF_LAYER}.mlp", 2),
    *((f"{_LAYER}.norm{i}.@", f"{_HF_LAYER}.layer_norm{i}.@") for i in (1, 2, 3, 4)),
    *_attention(
        f"{_TWO_WAY}.final_attn_token_to_image", f"{_HF_TWO_WAY}.final_attn_token_to_image"
    ),
    (f"{_TWO_WAY}.norm_final_attn.@", f"{_HF_TWO_WAY}.layer_norm_final_attn.@"),
    (f"{_DECODER}.output_upscaling.0.@", f"{_HF_DECODER}.upscale_conv1.@"),
    (f"{_DECODER}.output_upscaling.1.@", f"{_HF_DECODER}.upscale_layer_norm.@"),
    (f"{_DECODER}.output_upscaling.3.@", f"{_HF_DECODER}.upscale_conv2.@"),
    (f"{_DECODER}.conv_s0.@", f"{_HF_DECODER}.conv_s0.@"),
    (f"{_DECODER}.conv_s1.@", f"{_HF_DECODER}.conv_s1.@"),
    *_mlp(
        f"{_DECODER}.output_hypernetworks_mlps.#", f"{_HF_DECODER}.output_hypernetworks_mlps.#", 3
    ),
    *_mlp(f"{_DECODER}.iou_prediction_head", f"{_HF_DECODER}.iou_prediction_head", 3),
    *_mlp(f"{_DECODER}.pred_obj_score_head", f"{_HF_DECODER}.pred_obj_score_head", 3),
)

# Meta has one matrix for the positions of pixels and of prompts, transformers a copy for each.
_POSITIONS = f"{_PROMPT}.pe_layer.positional_encoding_gaussian_matrix"
_HF_POSITIONS = (
    "shared_image_embedding.positional_embedding",
    f"{_HF_PROMPT}.shared_embedding.positional_embedding",
)

# Meta has one table of one row for each kind of point, transformers one table.
_POINTS = re.compile(rf"{_PROMPT}\.point_embeddings\.(\d+)\.weight")
_HF_POINTS = f"{_HF_PROMPT}.point_embed.weight"

# What remembers earlier frames of a video.
_META_UNUSED = re.compile(
    r"(memory_attention|memory_encoder|mask_downsample|obj_ptr_proj|obj_ptr_tpos_proj)\.|"
    r"(maskmem_tpos_enc|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial)$"
)


def meta_to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any shapes from Meta's names to those of transformers' `Sam2Model`.

    Raises:
        CheckpointError: there are unknown names; the message lists them.
    """
    renamed: dict[str, Tensor] = {}
    points: dict[int, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if _META_UNUSED.match(name):
            continue
        if name == _POSITIONS:
            renamed.update(dict.fromkeys(_HF_POSITIONS, tensor))
        elif (point := _POINTS.fullmatch(name)) is not None:
            points[int(point.group(1))] = tensor
        elif (target := rename(name, _RENAMED)) is not None:
            renamed[target] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise _unknown_names("Meta's checkpoint", unknown)
    if points:
        renamed[_HF_POINTS] = torch.cat([points[number] for number in sorted(points)])
    return renamed


def transformers_to_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any shapes from the names of transformers' `Sam2Model` to Meta's.

    Raises:
        CheckpointError: there are unknown names, or the two copies of the matrix of positions
            differ, which Meta's model cannot express.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    rules = swap(_RENAMED)
    for name, tensor in state.items():
        if name in _HF_POSITIONS:
            if _POSITIONS in renamed and not torch.equal(renamed[_POSITIONS], tensor):
                raise CheckpointError(f"{' and '.join(_HF_POSITIONS)} differ; SAM 2 has one matrix")
            renamed[_POSITIONS] = tensor
        elif name == _HF_POINTS:
            rows = enumerate(tensor.split(1))
            renamed.update((f"{_PROMPT}.point_embeddings.{i}.weight", row) for i, row in rows)
        elif (target := rename(name, rules)) is not None:
            renamed[target] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise _unknown_names("transformers' checkpoint", unknown)
    return renamed


def _unknown_names(source: str, names: list[str]) -> CheckpointError:
    return CheckpointError(
        f"the weights in {source} are not those of a SAM 2 (left over: {', '.join(names)}). Check "
        "that MODEL.TEXTURE_SAM.BASE is a SAM 2 or SAM 2.1 checkpoint"
    )
