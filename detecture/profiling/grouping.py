"""Parts and operations of TextureGrouping; needs no values, so models are on torch's `meta`.

Legend: H, W sides of a view in pixels, S side of what the VLM is shown.
"""

from typing import Any

import torch
from torch import Tensor

from detecture.modeling.describer.describer import ONE
from detecture.modeling.meta_arch.texture_grouping import TextureGrouping
from detecture.profiling.flops import (
    META,
    Cost,
    Workload,
    cost_of,
    count_vlm_stages,
    parameter_bytes,
    visual_tokens,
)

GROUPING_PARTS = {
    "net.": "grouping nets",
    "more_nets.": "grouping nets",
    "selector.": "count selector",
    "confidence.": "confidence of regions",
    "describer.texture.": "look at textures",
    "describer.vlm.model.model.visual.": "vlm vision",
    "describer.": "vlm text",
}
"""What names of parameters begin with, and the part that they belong to: the first that fits."""

_TOKENS_OF_A_SENTENCE = 20
_STAGES_OF_VLM = ("vlm_vision", "prefill", "decode_per_token")


def grouping_part_of(name: str) -> str:
    """The part of a TextureGrouping that a parameter of this name belongs to."""
    return next((part for start, part in GROUPING_PARTS.items() if name.startswith(start)), "other")


def grouping_views(model: TextureGrouping) -> list[int]:
    """Side in pixels of each view of a square image that a net sees, mirrored ones included."""
    settings = model.finder.settings
    if not settings.use_net:
        return []
    sides = [max(16, round(settings.working_size * scale)) for scale in settings.scales]
    return [side for side in sides for _ in range(2 if settings.flip else 1)]


def grouping_work(model: TextureGrouping) -> dict[str, int]:
    """Sizes of the work for one image; the stages of the VLM are those of one region."""
    work = {"views": len(grouping_views(model)), "working_size": model.finder.settings.working_size}
    if model.describer is None:
        return work
    told = _workload(model)
    return work | {
        "visual_tokens_per_region": told.visual_tokens,
        "prompt_tokens_per_region": told.prompt_tokens,
    }


def count_grouping_stages(model: TextureGrouping) -> dict[str, Cost]:
    """Costs of the stages that torch computes; mixtures and classical features use numpy.

    Args:
        model: on the `meta` device.

    Returns:
        `grouping_nets`, all views of one square image; `look_at_textures`, of one image with one
        region; and for one region `vlm_vision`, `prefill` (the prompt, no logits) and
        `decode_per_token`. Without a describer only the first.
    """
    sides = grouping_views(model)

    def run_nets(_: Tensor) -> None:
        """Each view (1,3,H,W) through one net: all nets have the same form."""
        for side in sides:
            model.net(torch.empty(1, 3, side, side, device=META))

    nets = (model.net, *model.more_nets)
    used = nets[: len(model.finder.settings.scales)] if sides else ()
    nothing = torch.empty(0, device=META)
    costs = {"grouping_nets": cost_of(run_nets, nothing, sum(map(parameter_bytes, used)))}
    describer = model.describer
    if describer is None:
        return costs
    if describer.texture is not None:
        look, side = describer.texture, describer.vlm.image_size
        mask = torch.ones(1, side, side, dtype=torch.bool, device=META)

        def run_look(square_13SS: Tensor) -> Any:
            """The hint of one region of an image (1,3,S,S)."""
            return look(square_13SS, [mask])

        square_13SS = torch.empty(1, 3, side, side, device=META)
        costs["look_at_textures"] = cost_of(run_look, square_13SS, parameter_bytes(look))
    of_vlm = count_vlm_stages(describer.vlm, _workload(model))
    return costs | {name: of_vlm[name] for name in _STAGES_OF_VLM}


def memory_of_a_net(model: TextureGrouping) -> dict[str, int]:
    """Bytes that training one net keeps, and bytes of the file of all parts.

    Nets, selector and describer are trained one after the other (`configs/recipes`).
    """
    own = parameter_bytes(model.net)
    whole = sum(t.numel() * t.element_size() for t in model.checkpoint_state().values())
    return {"gradients": own, "moments": 2 * own, "checkpoint": whole}


def _workload(model: TextureGrouping) -> Workload:
    if model.describer is None:
        raise ValueError("there is no describer")
    vlm = model.describer.vlm
    prompt = len(vlm.chat.prompt_ids(ONE, 0))
    return Workload(visual_tokens(vlm), prompt, _TOKENS_OF_A_SENTENCE)
