"""Names of CLIP's weights in OpenAI's files and in CAT-Seg's checkpoints, to transformers' names.

OpenAI has query, key and value in one tensor; CAT-Seg, where some of them train, three weights and
one bias. The patterns are those of `detecture.modeling.weights.name_rules`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from detecture.errors import CheckpointError
from detecture.modeling.weights.name_rules import NameRules, rename, swap

_BLOCK, _HF_BLOCK = "resblocks.#", "encoder.layers.#"


def _encoder(meta: str, hf: str) -> NameRules:
    block, hf_block = f"{meta}transformer.{_BLOCK}", f"{hf}.{_HF_BLOCK}"
    return (
        (f"{block}.attn.out_proj.@", f"{hf_block}.self_attn.out_proj.@"),
        (f"{block}.ln_1.@", f"{hf_block}.layer_norm1.@"),
        (f"{block}.ln_2.@", f"{hf_block}.layer_norm2.@"),
        (f"{block}.mlp.c_fc.@", f"{hf_block}.mlp.fc1.@"),
        (f"{block}.mlp.c_proj.@", f"{hf_block}.mlp.fc2.@"),
    )


_RENAMED: NameRules = (
    *_encoder("visual.", "vision_model"),
    *_encoder("", "text_model"),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre.@", "vision_model.pre_layrnorm.@"),
    ("visual.ln_post.@", "vision_model.post_layernorm.@"),
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.@", "text_model.final_layer_norm.@"),
    ("logit_scale", "logit_scale"),
)
_TRANSPOSED: NameRules = (
    ("visual.proj", "visual_projection.weight"),
    ("text_projection", "text_projection.weight"),
)
_FUSED: NameRules = tuple(
    (f"{meta}transformer.{_BLOCK}.attn.in_proj_@", f"{hf}.{_HF_BLOCK}.self_attn.?_proj.@")
    for meta, hf in (("visual.", "vision_model"), ("", "text_model"))
)
_APART: NameRules = tuple(
    (
        f"{meta}transformer.{_BLOCK}.attn.{part}_proj_weight",
        f"{hf}.{_HF_BLOCK}.self_attn.{part}_proj.weight",
    )
    for meta, hf in (("visual.", "vision_model"), ("", "text_model"))
    for part in "qkv"
)
# Settings that OpenAI's files hold among the weights.
_NO_WEIGHTS = frozenset({"input_resolution", "context_length", "vocab_size"})


def openai_to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under OpenAI's or CAT-Seg's names to the same under transformers' `CLIPModel`'s.

    Args:
        state: tensors of any shapes, by name.

    Raises:
        CheckpointError: there are unknown names, or shapes that no CLIP has; the message lists
            them.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if name in _NO_WEIGHTS or name.endswith("attn_mask"):
            continue
        if (target := rename(name, _FUSED)) is not None:
            if not tensor.ndim or len(tensor) % 3:
                raise CheckpointError(_misshaped(name, tensor, "three parts of one size"))
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                renamed[target.replace("?", part)] = chunk.contiguous()
        elif (target := rename(name, _TRANSPOSED)) is not None:
            if tensor.ndim != 2:
                raise CheckpointError(_misshaped(name, tensor, "a matrix"))
            renamed[target] = tensor.t().contiguous()
        elif (target := rename(name, _APART) or rename(name, _RENAMED)) is not None:
            renamed[target] = tensor
        else:
            unknown.append(name)
    if unknown:
        shown = ", ".join(unknown[:20]) + (f" and {len(unknown) - 20} more" * (len(unknown) > 20))
        raise CheckpointError(f"these are no weights of a CLIP (left over: {shown})")
    return renamed


def _misshaped(name: str, tensor: Tensor, due: str) -> str:
    """Of a tensor of any shape."""
    return f"these are no weights of a CLIP (shape of {name}: {tuple(tensor.shape)}, must be {due})"


def transformers_to_openai(
    state: Mapping[str, Tensor], *, apart: bool = False
) -> dict[str, Tensor]:
    """Weights under transformers' names to the same under OpenAI's, or, `apart`, CAT-Seg's.

    Args:
        state: tensors of any shapes, by name.
        apart: query, key and value weights stay three tensors, as in CAT-Seg's checkpoints.

    Raises:
        CheckpointError: there are unknown names.
    """
    renamed: dict[str, Tensor] = {}
    fused: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.endswith("position_ids"):
            continue
        part = next((p for p in "qkv" if f".self_attn.{p}_proj." in name), "")
        if part and apart and name.endswith(".weight"):
            target = rename(name, swap(_APART))
        elif part:
            target = rename(name, swap(_FUSED))
            fused.setdefault(str(target), {})[part] = tensor
            continue
        elif (target := rename(name, swap(_TRANSPOSED))) is not None:
            tensor = tensor.t().contiguous()
        else:
            target = rename(name, swap(_RENAMED))
        if target is None:
            raise CheckpointError(f"{name} is no weight of a CLIP")
        renamed[target] = tensor
    for target, parts in fused.items():
        renamed[target] = torch.cat([parts[part] for part in "qkv"])
    return renamed
