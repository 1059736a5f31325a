"""Operations of the stages of a Detecture model, counted on torch's `meta` device, and times that
follow from them.

Legend: V visual tokens, P prompt tokens (V included), G answer tokens, S side of an image, L tokens
of a pass, N prompts, T tokens of a prompt, D width, U patches of an image, C numbers of each, h, w
size of masks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    get_vision_interpolation_indices_and_weights,
    get_vision_position_ids,
)

from detecture.modeling.meta_arch.detecture import Detecture
from detecture.modeling.vlm import Qwen3VL
from detecture.modeling.vlm.cache import cache_argument

META = torch.device("meta")
_COUNTED = ("mm", "addmm", "bmm", "convolution", "scaled_dot_product", "baddbmm")


@dataclass(frozen=True)
class Cost:
    """Cost of one call of a stage.

    Attributes:
        flops: floating-point operations of matrix products, convolutions and attention; a multiply
            and an add are two.
        activations: how many numbers these operations output.
        weight_bytes: bytes of parameters (and cached keys and values) that have to be read.
        backward_flops: of the pass back to the stage's input, without gradients of frozen weights.
    """

    flops: int
    activations: int
    weight_bytes: int
    backward_flops: int = 0


@dataclass(frozen=True)
class Workload:
    """Sizes of the work for one image, by default the published ones.

    Attributes:
        visual_tokens: of an image.
        prompt_tokens: of a prompt, without visual tokens.
        tokens_per_region: of a line of the answer.
    """

    visual_tokens: int = 1024
    prompt_tokens: int = 300
    tokens_per_region: int = 40


class _ActivationCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if any(word in func.__name__ for word in _COUNTED):
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor):
                self.total += first.numel()
        return output


def count_stages(model: Detecture, work: Workload | None = None) -> dict[str, Cost]:
    """Costs of the stages, for one image.

    Args:
        model: on the `meta` device.
        work: sizes.

    Returns:
        `vlm_vision`, `prefill` (the prompt, no logits), `decode_per_token` (one token after the
        prompt, with its logits), `extraction_per_region` (the tokens of one region on the cached
        prompt), `logits_per_token`, `segmenter_encoder` and `slot`.

    Raises:
        ValueError: the model is not on the `meta` device.
    """
    segmenter = model.segmenter
    of_vlm = count_vlm_stages(model.vlm, work or Workload())
    side = segmenter.image_size
    pixels = torch.empty(1, 3, side, side, device=META, dtype=segmenter.dtype)
    with torch.no_grad():
        features = segmenter.encode_image(pixels)
    index_N = torch.zeros(1, dtype=torch.int64, device=META)
    encoder_bytes = sum(
        p.numel() * p.element_size()
        for name, p in segmenter.named_parameters()
        if name.startswith("vision_encoder.")
    )
    head = model.head.mask_head

    def run_slot(prompt_NTD: Tensor) -> Tensor:
        """Logits (N,h,w) of one query for each prompt."""
        embeddings = segmenter.pixel_embeddings(features, index_N, prompt_NTD)
        logits: Tensor = head(prompt_NTD[:, 0], embeddings.to(prompt_NTD.dtype), index_N)
        return logits

    slot = torch.empty(1, 1, segmenter.width, device=META, dtype=model.head.dustbin.dtype)
    return {
        **of_vlm,
        "segmenter_encoder": cost_of(segmenter.encode_image, pixels, encoder_bytes),
        "slot": cost_of(run_slot, slot, parameter_bytes(segmenter) - encoder_bytes, backward=True),
    }


def count_vlm_stages(vlm: Qwen3VL, work: Workload) -> dict[str, Cost]:
    """Costs of the VLM's stages, see `count_stages`.

    Args:
        vlm: on the `meta` device.
        work: sizes.

    Raises:
        ValueError: it is on another device.
    """
    if vlm.device != META:
        raise ValueError(f"FLOPs are counted on the meta device, not on {vlm.device}")
    vision, text = vlm.model.model.visual, vlm.model.model.language_model
    run_vision = _vision(vlm, work.visual_tokens)
    prompt = work.visual_tokens + work.prompt_tokens
    width, dtype = vlm.hidden_size, vlm.model.dtype
    cache_bytes = _cache_bytes(vlm, prompt)
    text_bytes = parameter_bytes(text) - parameter_bytes(vlm.model.get_input_embeddings())
    head_bytes = parameter_bytes(vlm.model.lm_head)

    def run_text(length: int, cached: int = 0) -> Callable[[Tensor], Tensor]:
        """The text model on L = `length` tokens after `cached` ones: (1,L,D) to (1,L,D)."""

        def run(states: Tensor) -> Tensor:
            """States (1,L,D) to the last hidden states (1,L,D)."""
            output = text(
                inputs_embeds=states,
                position_ids=torch.arange(length, device=META).expand(3, 1, -1) + cached,
                **cache_argument(text, _filled_cache(vlm, cached) if cached else None),
                use_cache=bool(cached),
            )
            hidden: Tensor = output.last_hidden_state
            return hidden

        return run

    def states(length: int) -> Tensor:
        """Embeddings (1,L,D) of L = `length` tokens, without values."""
        return torch.empty(1, length, width, device=META, dtype=dtype)

    region = work.tokens_per_region
    patch_dim = vision.config.patch_size**2 * 3 * vision.config.temporal_patch_size
    patches = work.visual_tokens * vision.config.spatial_merge_size**2
    return {
        "vlm_vision": cost_of(
            run_vision,
            torch.empty(patches, patch_dim, device=META, dtype=dtype),
            parameter_bytes(vision),
        ),
        "prefill": cost_of(run_text(prompt), states(prompt), text_bytes, backward=True),
        "decode_per_token": cost_of(
            lambda x: vlm.logits(run_text(1, prompt)(x)),
            states(1),
            text_bytes + head_bytes + cache_bytes,
        ),
        "extraction_per_region": cost_of(
            run_text(region, prompt), states(region), text_bytes + cache_bytes, backward=True
        ),
        "logits_per_token": cost_of(vlm.logits, states(1), head_bytes, backward=True),
    }


def cost_of(
    run: Callable[[Tensor], Any], inputs: Tensor, weight_bytes: int, *, backward: bool = False
) -> Cost:
    """Cost of `run` on inputs of any shape; `backward` also counts the pass back to them."""
    with torch.no_grad(), FlopCounterMode(display=False) as flops, _ActivationCounter() as numbers:
        run(inputs)
    back = 0
    if backward:
        # Only the pass back to the input: frozen weights get no gradient.
        output = run(inputs.requires_grad_(True))
        with FlopCounterMode(display=False) as backward_flops:
            output.sum().backward()
        back = backward_flops.get_total_flops()
    return Cost(flops.get_total_flops(), numbers.total, weight_bytes, back)


def visual_tokens(vlm: Qwen3VL) -> int:
    """Number of visual tokens of an image."""
    vision = vlm.model.config.vision_config
    return round(vlm.image_size / (vision.patch_size * vision.spatial_merge_size)) ** 2


def _vision(vlm: Qwen3VL, tokens: int) -> Callable[[Tensor], Any]:
    """The vision tower on the patches of one image, (U,C)."""
    tower = vlm.model.model.visual
    merge = tower.config.spatial_merge_size
    side = math.isqrt(tokens) * merge
    # The grid holds values, so it is on the CPU, and what depends on it is computed there.
    with torch.device("cpu"):
        grid = torch.tensor([[1, side, side]])
        indices, weights = get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=tower.num_grid_per_side,
            mode=tower.interpolation_mode,
            align_corners=tower.interpolation_align_corners,
            spatial_merge_size=merge,
        )
        positions = get_vision_position_ids(grid, merge)
        lengths = torch.tensor([0, side * side])

    def run(patches: Tensor) -> Any:
        """What the tower makes of patches (U,C)."""
        return tower(
            patches,
            grid_thw=grid,
            interp_indices=indices.to(META),
            interp_weights=weights.to(META),
            position_ids=positions.to(META),
            cu_seqlens=lengths,
        )

    return run


def _filled_cache(vlm: Qwen3VL, length: int) -> DynamicCache:
    config = vlm.model.config.text_config
    cache = DynamicCache(config=config)
    shape = (1, config.num_key_value_heads, length, config.head_dim)
    for layer in range(config.num_hidden_layers):
        keys = torch.empty(shape, device=META, dtype=vlm.model.dtype)
        cache.update(keys, keys, layer)
    return cache


def _cache_bytes(vlm: Qwen3VL, length: int) -> int:
    config = vlm.model.config.text_config
    size = torch.empty(0, dtype=vlm.model.dtype).element_size()
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    return int(numbers * length * size)


def parameter_bytes(module: torch.nn.Module) -> int:
    """Bytes of the parameters of a module."""
    return sum(p.numel() * p.element_size() for p in module.parameters())


@dataclass(frozen=True)
class Machine:
    """An accelerator: an H200 by default, at half of its dense bf16 peak."""

    name: str = "H200, 989 TFLOP/s dense bf16 at 50 %, 4.8 TB/s"
    flops_per_second: float = 0.5 * 989e12
    bytes_per_second: float = 4.8e12

    def seconds(self, flops: float, moved_bytes: float) -> float:
        """Time by the roofline model: operations or memory, whichever takes longer."""
        return max(flops / self.flops_per_second, moved_bytes / self.bytes_per_second)


def predict_inference(
    costs: dict[str, Cost],
    regions: int,
    work: Workload,
    slots: int = 7,
    machine: Machine | None = None,
) -> dict[str, Any]:
    """Times in ms of one image, ours and published, from counts.

    Pre- and postprocessing are left out.

    Args:
        costs: from `count_stages`.
        regions: K.
        work: sizes that the costs were counted with.
        slots: number that the published way always runs.
        machine: what runs it.
    """
    on = machine or Machine()

    def ms(name: str, times: float = 1) -> float:
        cost = costs[name]  # several at once read the weights once
        return 1e3 * on.seconds(cost.flops * times, cost.weight_bytes)

    steps = regions * work.tokens_per_region
    region = costs["extraction_per_region"]
    second_pass = costs["prefill"].flops + regions * region.flops
    shared = {
        "vlm_vision": ms("vlm_vision"),
        "segmenter_encoder": ms("segmenter_encoder"),
        "prefill": ms("prefill"),
        "decode": steps * ms("decode_per_token"),
    }
    ours = {**shared, "extraction": ms("extraction_per_region", regions)}
    ours["masks"] = ms("slot", 1 + regions)
    again = 1e3 * on.seconds(second_pass, region.weight_bytes)
    published = {**shared, "extraction": shared["vlm_vision"] + again, "masks": ms("slot", slots)}
    return _sides(ours, published, on)


def predict_training(
    costs: dict[str, Cost],
    work: Workload,
    table_bytes: float,
    *,
    stage: int,
    regions: int = 4,
    images: int = 8,
    slots: int = 7,
    tables_train: bool = True,
    machine: Machine | None = None,
) -> dict[str, Any]:
    """Times in ms of one optimiser step, ours and published, from counts.

    Both with gradient checkpointing, as the published recipe has it: where there is a backward
    pass, the forward one is computed twice. Ours in stage 2 packs the answer twice.

    Args:
        costs: from `count_stages`.
        work: sizes that the costs were counted with.
        table_bytes: of both vocabulary tables together.
        stage: 1 or 2.
        regions: K of each image.
        images: of an optimiser step.
        slots: that the published way always runs.
        tables_train: the published tables have gradients in stage 1 too.
        machine: what runs it.
    """
    on = machine or Machine()
    slot, region, logits = costs["slot"], costs["extraction_per_region"], costs["logits_per_token"]
    encoding = costs["vlm_vision"].flops + costs["segmenter_encoder"].flops
    tokens = regions * work.tokens_per_region
    per_slot = 2 * slot.flops + slot.backward_flops

    def text(copies: int, trains: bool) -> float:
        forward = costs["prefill"].flops + copies * regions * region.flops
        back = costs["prefill"].backward_flops + copies * regions * region.backward_flops
        return 2 * forward + back if trains else forward

    ours = encoding + (1 + regions) * per_slot + text(stage, stage > 1)
    if stage > 1:
        ours += tokens * (logits.flops + logits.backward_flops)
    trains = stage > 1 or tables_train
    positions = work.visual_tokens + work.prompt_tokens + tokens
    # With its tables in training, the output's gradient costs as much as its forward pass.
    head = positions * (3 if trains else 1) * logits.flops
    published = encoding + slots * per_slot + text(1, trains) + head
    # Mask, clip and AdamW: gradient read and written by the mask and read by the norm and the
    # update; parameters and two moments read and written.
    moved = (4 + 2 + 4) * table_bytes if trains else 0.0
    update = 1e3 * on.seconds(0, moved)
    return _sides(
        {"forward_backward": 1e3 * on.seconds(images * ours, 0), "table_update": 0.0},
        {"forward_backward": 1e3 * on.seconds(images * published, 0), "table_update": update},
        on,
    )


def _sides(ours: dict[str, float], published: dict[str, float], machine: Machine) -> dict[str, Any]:
    ours["total"], published["total"] = math.fsum(ours.values()), math.fsum(published.values())
    return {
        "machine": machine.name,
        "ours_ms": ours,
        "published_ms": published,
        "ratio": {stage: published[stage] / ours[stage] for stage in ours if ours[stage]},
    }
