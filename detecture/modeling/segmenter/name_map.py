"""Names of SAM 3's weights in Meta's checkpoint and in transformers: one to the other, strictly.

Pure functions on state dicts. Only the parts that a segmenter can have are mapped: image encoder,
text encoder, fusion encoder, pixel decoder and semantic head, and the detector where it is asked
for; what is known to belong to the others (such as the tracker) is passed over, and any other name
is an error.

The patterns are those of `detecture.modeling.weights.name_rules`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from detecture.errors import CheckpointError
from detecture.modeling.segmenter import detector_names
from detecture.modeling.weights.name_rules import rename, strip_prefix, swap

_TRUNK, _NECK = "backbone.vision_backbone.trunk", "backbone.vision_backbone.convs"
_TEXT, _FUSION = "backbone.language_backbone.encoder", "transformer.encoder.layers.#"
_HF_TRUNK, _HF_NECK = "vision_encoder.backbone", "vision_encoder.neck.fpn_layers"
_HF_TEXT, _HF_FUSION = "text_encoder.text_model", "detr_encoder.layers.#"
_BLOCK, _HF_BLOCK = f"{_TRUNK}.blocks.#", f"{_HF_TRUNK}.layers.#"
_RESBLOCK, _HF_RESBLOCK = f"{_TEXT}.transformer.resblocks.#", f"{_HF_TEXT}.encoder.layers.#"

_POSITIONS = f"{_TRUNK}.pos_embed", f"{_HF_TRUNK}.embeddings.position_embeddings"
"""Meta's has a first row for a class token that the model does not have."""

_TRANSPOSED = f"{_TEXT}.text_projection", "text_encoder.text_projection.weight"

_RENAMED = (
    (
        f"{_TRUNK}.patch_embed.proj.weight",
        f"{_HF_TRUNK}.embeddings.patch_embeddings.projection.weight",
    ),
    (f"{_TRUNK}.ln_pre.@", f"{_HF_TRUNK}.layer_norm.@"),
    (f"{_BLOCK}.norm1.@", f"{_HF_BLOCK}.layer_norm1.@"),
    (f"{_BLOCK}.norm2.@", f"{_HF_BLOCK}.layer_norm2.@"),
    (f"{_BLOCK}.attn.proj.@", f"{_HF_BLOCK}.attention.o_proj.@"),
    (f"{_BLOCK}.mlp.fc1.@", f"{_HF_BLOCK}.mlp.fc1.@"),
    (f"{_BLOCK}.mlp.fc2.@", f"{_HF_BLOCK}.mlp.fc2.@"),
    (f"{_NECK}.0.dconv_2x2_0.@", f"{_HF_NECK}.0.scale_layers.0.@"),
    (f"{_NECK}.0.dconv_2x2_1.@", f"{_HF_NECK}.0.scale_layers.2.@"),
    (f"{_NECK}.1.dconv_2x2.@", f"{_HF_NECK}.1.scale_layers.0.@"),
    (f"{_NECK}.#.conv_1x1.@", f"{_HF_NECK}.#.proj1.@"),
    (f"{_NECK}.#.conv_3x3.@", f"{_HF_NECK}.#.proj2.@"),
    ("backbone.language_backbone.resizer.@", "text_projection.@"),
    (f"{_TEXT}.token_embedding.weight", f"{_HF_TEXT}.embeddings.token_embedding.weight"),
    (f"{_TEXT}.positional_embedding", f"{_HF_TEXT}.embeddings.position_embedding.weight"),
    (f"{_TEXT}.ln_final.@", f"{_HF_TEXT}.final_layer_norm.@"),
    (f"{_RESBLOCK}.attn.out_proj.@", f"{_HF_RESBLOCK}.self_attn.out_proj.@"),
    (f"{_RESBLOCK}.ln_1.@", f"{_HF_RESBLOCK}.layer_norm1.@"),
    (f"{_RESBLOCK}.ln_2.@", f"{_HF_RESBLOCK}.layer_norm2.@"),
    (f"{_RESBLOCK}.mlp.c_fc.@", f"{_HF_RESBLOCK}.mlp.fc1.@"),
    (f"{_RESBLOCK}.mlp.c_proj.@", f"{_HF_RESBLOCK}.mlp.fc2.@"),
    (f"{_FUSION}.self_attn.out_proj.@", f"{_HF_FUSION}.self_attn.o_proj.@"),
    (f"{_FUSION}.cross_attn_image.out_proj.@", f"{_HF_FUSION}.cross_attn.o_proj.@"),
    (f"{_FUSION}.linear1.@", f"{_HF_FUSION}.mlp.fc1.@"),
    (f"{_FUSION}.linear2.@", f"{_HF_FUSION}.mlp.fc2.@"),
    (f"{_FUSION}.norm1.@", f"{_HF_FUSION}.layer_norm1.@"),
    (f"{_FUSION}.norm2.@", f"{_HF_FUSION}.layer_norm2.@"),
    (f"{_FUSION}.norm3.@", f"{_HF_FUSION}.layer_norm3.@"),
    ("segmentation_head.cross_attn_norm.@", "mask_decoder.prompt_cross_attn_norm.@"),
    (
        "segmentation_head.cross_attend_prompt.out_proj.@",
        "mask_decoder.prompt_cross_attn.o_proj.@",
    ),
    (
        "segmentation_head.pixel_decoder.conv_layers.#.@",
        "mask_decoder.pixel_decoder.conv_layers.#.@",
    ),
    ("segmentation_head.pixel_decoder.norms.#.@", "mask_decoder.pixel_decoder.norms.#.@"),
    ("segmentation_head.semantic_seg_head.@", "mask_decoder.semantic_projection.@"),
)

# Query, key and value in one tensor; `?` stands for q, k or v.
_FUSED = (
    (f"{_BLOCK}.attn.qkv.@", f"{_HF_BLOCK}.attention.?_proj.@"),
    (f"{_RESBLOCK}.attn.in_proj_@", f"{_HF_RESBLOCK}.self_attn.?_proj.@"),
    (f"{_FUSION}.self_attn.in_proj_@", f"{_HF_FUSION}.self_attn.?_proj.@"),
    (f"{_FUSION}.cross_attn_image.in_proj_@", f"{_HF_FUSION}.cross_attn.?_proj.@"),
    (
        "segmentation_head.cross_attend_prompt.in_proj_@",
        "mask_decoder.prompt_cross_attn.?_proj.@",
    ),
)

# The coarsest level of the neck (number 3) and the last stage of the pixel decoder (number 2) are
# in SAM 3 and used by nothing; points as prompts are Meta's alone.
_META_UNUSED = re.compile(
    r"inst_interactive_predictor\.|geometry_encoder\.points_\w+_project\.|"
    r"backbone\.vision_backbone\.(sam2_convs|convs\.3)\.|.*\.freqs_cis$|"
    r"segmentation_head\.pixel_decoder\.(conv_layers|norms)\.2\."
)
_HF_UNUSED = re.compile(
    r"tracker_(model|neck)\.|vision_encoder\.neck\.fpn_layers\.3\.|"
    r"mask_decoder\.pixel_decoder\.(conv_layers|norms)\.2\."
)
_TEXT_ENCODERS = ("backbone.language_backbone.encoder.", "text_encoder.")

_SHOWN = 8  # names in an error


def meta_to_transformers(
    state: Mapping[str, Tensor], *, with_detector: bool = False
) -> dict[str, Tensor]:
    """Weights, of any shapes, under Meta's names to the same under transformers' names.

    Args:
        state: Meta's; names may begin with `detector.`, then all others are passed over.
        with_detector: map the detector's too, rather than pass over them.

    Raises:
        CheckpointError: there are unknown names; the message lists them.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    renames, fuses = _RENAMED + detector_names.RENAMED, _FUSED + detector_names.FUSED
    for name, tensor in strip_prefix(state, "detector.").items():
        if _META_UNUSED.match(name) or (not with_detector and detector_names.META.match(name)):
            continue
        if name == _POSITIONS[0]:
            renamed[_POSITIONS[1]] = tensor[:, 1:]
        elif name == _TRANSPOSED[0]:
            renamed[_TRANSPOSED[1]] = tensor.t()
        elif (target := rename(name, fuses)) is not None:
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                renamed[target.replace("?", part)] = chunk
        elif (target := rename(name, renames)) is not None:
            renamed[target] = tensor
        else:
            unknown.append(name)
    _refuse("Meta's checkpoint", left_over=unknown)
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def transformers_to_meta(
    state: Mapping[str, Tensor], *, with_detector: bool = False
) -> dict[str, Tensor]:
    """Weights, of any shapes, under transformers' names to the same under Meta's names.

    The row of the class token, which transformers lacks and the model never reads, is zero.

    Args:
        state: transformers'; names may begin with `detector_model.`, then all others are passed
            over.
        with_detector: map the detector's too, rather than pass over them.

    Raises:
        CheckpointError: there are unknown names, or one of a query, key and value is missing.
    """
    renamed: dict[str, Tensor] = {}
    fused: dict[str, dict[str, Tensor]] = {}
    unknown = []
    renames = swap(_RENAMED + detector_names.RENAMED)
    fuses = swap(_FUSED + detector_names.FUSED)
    for name, tensor in strip_prefix(state, "detector_model.").items():
        if _HF_UNUSED.match(name):
            continue
        if not with_detector and detector_names.TRANSFORMERS.match(name):
            continue
        if name == _POSITIONS[1]:
            renamed[_POSITIONS[0]] = torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)
        elif name == _TRANSPOSED[1]:
            renamed[_TRANSPOSED[0]] = tensor.t()
        elif (target := rename(name, fuses)) is not None:
            part = re.sub(r".*\.([qkv])_proj\..*", r"\1", name)
            fused.setdefault(target, {})[part] = tensor
        elif (target := rename(name, renames)) is not None:
            renamed[target] = tensor
        else:
            unknown.append(name)
    incomplete = [f"{name} ({p})" for name, parts in fused.items() for p in "qkv" if p not in parts]
    _refuse("transformers' checkpoint", missing=incomplete, left_over=unknown)
    for name, parts in fused.items():
        renamed[name] = torch.cat([parts[part] for part in "qkv"])
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def check_names(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """The part of `state` to load into a model, if it is all there.

    Args:
        expected: the model's own state dict, tensors of any shapes.
        state: the weights, under the model's names. Parts that a segmenter can be built without
            may be there in vain.
        source: what errors call them, such as the file's path.

    Raises:
        CheckpointError: names are missing or left over, or shapes differ; the message lists them.
    """
    wanted = {name for name in expected if not _META_UNUSED.match(name)}
    has_detector = any(_of_detector(name) for name in wanted)
    left_over = [
        name
        for name in state
        if name not in wanted
        and not name.startswith(_TEXT_ENCODERS)
        and not _META_UNUSED.match(name)
        and not _HF_UNUSED.match(name)
        and (has_detector or not _of_detector(name))
    ]
    _refuse(source, missing=sorted(wanted - set(state)), left_over=left_over)
    wrong = [
        f"{name} {tuple(state[name].shape)} for {tuple(expected[name].shape)}"
        for name in sorted(wanted)
        if state[name].shape != expected[name].shape
    ]
    _refuse(source, wrong_shape=wrong)
    return {name: state[name] for name in wanted}


def _of_detector(name: str) -> bool:
    return any(p.match(name) for p in (detector_names.META, detector_names.TRANSFORMERS))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _refuse(source: str, **faults: Iterable[str]) -> None:
    found = [
        f"{kind.replace('_', ' ')}: {_some(sorted(names))}"
        for kind, names in faults.items()
        if list(names)
    ]
    if found:
        raise CheckpointError(
            f"the weights in {source} are not those of this SAM 3 ({'; '.join(found)}). Check that "
            "MODEL.SEGMENTER.BASE is a SAM 3 checkpoint, and MODEL.SEGMENTER.CONFIG its structure"
        )
