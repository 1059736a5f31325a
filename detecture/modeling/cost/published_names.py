"""Names of the weights in CAT-Seg's released checkpoints, to ours.

The patterns are those of `detecture.modeling.weights.name_rules`.
"""

from collections.abc import Mapping

from torch import Tensor

from detecture.errors import CheckpointError
from detecture.modeling.clip.name_map import openai_to_transformers, transformers_to_openai
from detecture.modeling.weights.name_rules import NameRules, rename, swap

_PREDICTOR = "sem_seg_head.predictor."
_CLIP, _OUR_CLIP = f"{_PREDICTOR}clip_model.", "clip.model."
_THEIRS, _OURS = f"{_PREDICTOR}transformer.", "head.aggregator."

_LAYER = "layers.#"
_SPATIAL: NameRules = tuple(
    (
        f"{_THEIRS}{_LAYER}.swin_block.block_{number + 1}.{theirs}.@",
        f"{_OURS}{_LAYER}.spatial.blocks.{number}.{ours}.@",
    )
    for number in (0, 1)
    for theirs, ours in (
        ("norm1", "norm1"),
        ("norm2", "norm2"),
        ("attn.q", "query"),
        ("attn.k", "key"),
        ("attn.v", "value"),
        ("attn.proj", "out"),
        ("mlp.fc1", "mlp.0"),
        ("mlp.fc2", "mlp.2"),
    )
)
_CLASSWISE: NameRules = tuple(
    (f"{_THEIRS}{_LAYER}.attention.{theirs}.@", f"{_OURS}{_LAYER}.classwise.{ours}.@")
    for theirs, ours in (
        ("attention.q", "query"),
        ("attention.k", "key"),
        ("attention.v", "value"),
        ("MLP.0", "mlp.0"),
        ("MLP.2", "mlp.2"),
        ("norm1", "norm1"),
        ("norm2", "norm2"),
    )
)
_DECODER: NameRules = tuple(
    rule
    for number in (0, 1)
    for rule in (
        (
            f"{_THEIRS}decoder_guidance_projection.{number}.0.@",
            f"{_OURS}decoder.projections.{number}.0.@",
        ),
        (f"{_THEIRS}decoder{number + 1}.up.@", f"{_OURS}decoder.stages.{number}.up.@"),
        (
            f"{_THEIRS}decoder{number + 1}.conv.double_conv.#.@",
            f"{_OURS}decoder.stages.{number}.convolutions.#.@",
        ),
        (f"upsample{number + 1}.@", f"head.enlarge.{number}.@"),
    )
)
_REST: NameRules = (
    (
        f"{_THEIRS}{_LAYER}.swin_block.guidance_norm.@",
        f"{_OURS}{_LAYER}.spatial.guidance_norm.@",
    ),
    (f"{_THEIRS}conv1.@", f"{_OURS}embed.@"),
    (f"{_THEIRS}guidance_projection.0.@", f"{_OURS}image_projection.0.@"),
    (f"{_THEIRS}text_guidance_projection.0.@", f"{_OURS}text_projection.0.@"),
    (f"{_THEIRS}head.@", f"{_OURS}decoder.head.@"),
)
_PADDING: NameRules = (
    (f"{_THEIRS}{_LAYER}.attention.padding_tokens", f"{_OURS}{_LAYER}.classwise.padding_token"),
    (
        f"{_THEIRS}{_LAYER}.attention.padding_guidance",
        f"{_OURS}{_LAYER}.classwise.padding_guidance",
    ),
)
_ALL: NameRules = (*_SPATIAL, *_CLASSWISE, *_DECODER, *_REST)


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Whether weights (of any shapes) bear the names of CAT-Seg's checkpoints."""
    return any(name.startswith(_PREDICTOR) for name in state)


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any shapes under CAT-Seg's names to the same under ours.

    Raises:
        CheckpointError: there are unknown names; the message lists them.
    """
    renamed, clip, unknown = {}, {}, []
    for name, tensor in state.items():
        if name.startswith(_CLIP):
            clip[name.removeprefix(_CLIP)] = tensor
        elif name.endswith("attn_mask"):  # of the windows; it follows from their size
            continue
        elif (target := rename(name, _PADDING)) is not None:
            renamed[target] = tensor.reshape(-1)
        elif (target := rename(name, _ALL)) is not None:
            renamed[target] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise CheckpointError(
            f"these are no weights of CAT-Seg (left over: {', '.join(unknown[:20])})"
        )
    converted = openai_to_transformers(clip)
    return {**renamed, **{f"{_OUR_CLIP}{name}": tensor for name, tensor in converted.items()}}


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `from_published`, of any shapes, without the masks of the windows.

    Raises:
        CheckpointError: there are unknown names.
    """
    renamed, clip = {}, {}
    for name, tensor in state.items():
        if name.startswith(_OUR_CLIP):
            clip[name.removeprefix(_OUR_CLIP)] = tensor
        elif (target := rename(name, swap(_PADDING))) is not None:
            renamed[target] = tensor.reshape(1, 1, -1)
        elif (target := rename(name, swap(_ALL))) is not None:
            renamed[target] = tensor
        else:
            raise CheckpointError(f"{name} is no weight of CAT-Seg")
    converted = transformers_to_openai(clip, apart=True)
    return {**renamed, **{f"{_CLIP}{name}": tensor for name, tensor in converted.items()}}
