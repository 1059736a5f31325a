"""Parts and operations of CAT-Seg and AHS-Seg; needs no values, so models are on torch's `meta`.

Legend: B views, S side of a view in pixels, E width of the common space, W visual width of CLIP, G
grid, T names, A tokens of a name.
"""

import torch
from torch import Tensor

from detecture.modeling.meta_arch.ahs_seg import AHSSeg
from detecture.modeling.meta_arch.cat_seg import CATSeg
from detecture.profiling.flops import Cost, cost_of, parameter_bytes

META = torch.device("meta")
NAME_TOKENS = 16
"""Of a name in its template; the longest of the seven data sets' have 14."""

PARTS = {
    "clip.model.vision_model.": "clip image encoder",
    "clip.model.visual_projection.": "clip image encoder",
    "clip.": "clip text encoder",
    "adapter.": "orthogonal adapter",
    "head.enlarge.": "guidance",
    "head.aggregator.decoder.": "decoder",
    "head.aggregator.": "aggregator",
    "fpn.": "spherical fpn",
    "projection.": "class projection",
    "rectification.": "rectification",
    "prototypes.": "prototypes",
    "teacher.": "teacher",
}
"""What names of parameters begin with, and the part that they belong to: the first that fits."""


def semantic_part_of(name: str) -> str:
    """The part of a CAT-Seg or AHS-Seg that a parameter of this name belongs to."""
    return next((part for start, part in PARTS.items() if name.startswith(start)), "other")


def semantic_work(model: CATSeg, names: int, size: tuple[int, int] = (640, 640)) -> dict[str, int]:
    """Sizes of the work for one image: its views, and the names and tokens it is asked about.

    Args:
        model: how it sees images.
        names: T, at most those that are aggregated at a time.
        size: height and width of the image.
    """
    canvases = model.viewing.canvases(*size)
    views = sum(len(one.corners()) + bool(one.whole_weight or not one.size) for one in canvases)
    return {"views": views, "names": names, "tokens_per_name": NAME_TOKENS}


def count_semantic_stages(model: CATSeg, names: int) -> dict[str, Cost]:
    """Costs of the stages.

    Args:
        model: on the `meta` device.
        names: T, at most those that are aggregated at a time.

    Returns:
        `image_encoder` and `head` (all T names), of one view, and `text_encoder`, of one name in
        one template.
    """
    clip = model.clip
    side, grid, width = clip.image_size, clip.grid, clip.embed_width
    text_TPE = torch.empty(names, len(model.texts.templates), width, device=META)
    projection = model.projection if isinstance(model, AHSSeg) else None
    layers = [torch.empty(1, clip.width, grid, grid, device=META) for _ in model.taps]

    def run_head(tokens_BEGG: Tensor) -> Tensor:
        """Logits (B,T,4*G,4*G) of views."""
        extra = None if projection is None else projection(tokens_BEGG, text_TPE)
        logits: Tensor = model.head(
            tokens_BEGG,
            tokens_BEGG,
            layers,
            text_TPE,
            pooling=model.test.pooling,
            extra_BXTGG=extra,
        )
        return logits

    bytes_of = dict.fromkeys(PARTS.values(), 0)
    for name, parameter in model.named_parameters():
        bytes_of[semantic_part_of(name)] += parameter.numel() * parameter.element_size()
    pixels_B3SS = torch.empty(1, 3, side, side, device=META)
    ids_TA = torch.zeros(1, NAME_TOKENS, dtype=torch.int64, device=META)
    tokens_BEGG = torch.empty(1, width, grid, grid, device=META)
    return {
        "image_encoder": cost_of(clip.encode_image, pixels_B3SS, bytes_of["clip image encoder"]),
        "text_encoder": cost_of(clip.encode_text, ids_TA, bytes_of["clip text encoder"]),
        "head": cost_of(run_head, tokens_BEGG, parameter_bytes(model.head)),
    }
