"""What a model consists of: parameters by part, the adapter's bytes, what training keeps.

Needs no values, so models on torch's `meta` device are counted like any others.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from detecture.checkpoint.weights_file import make_header
from detecture.d2 import CfgNode
from detecture.modeling.meta_arch.cat_seg import CATSeg
from detecture.modeling.meta_arch.detecture import Detecture
from detecture.modeling.meta_arch.texture_grouping import TextureGrouping

Counted = Detecture | CATSeg | TextureGrouping
"""Models whose parts and operations are counted; AHSSeg is a CATSeg."""

PUBLISHED_ROWS = 151_670
"""Rows of a vocabulary table in the published checkpoint: Qwen's tokenizer and `<|seg|>`."""

_DTYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.bool: "BOOL",
}
_SEGMENTER_PARTS = {
    "vision_encoder.backbone.": "segmenter encoder",
    "vision_encoder.neck.": "segmenter encoder",
    "detr_encoder.": "segmenter fusion",
    "mask_decoder.": "segmenter pixel decoder",
    "text_projection.": "segmenter text projection",
}
_PARTS = (
    "vlm vision",
    "vlm text",
    "vlm lora",
    "seg rows",
    "bridge",
    "mask head",
    "dustbin",
    "segmenter encoder",
    "segmenter fusion",
    "segmenter pixel decoder",
    "segmenter text projection",
    "segmenter other",
)


def part_of(name: str) -> str:
    """The part, a row of the table, that a Detecture's parameter of this name belongs to."""
    if name.startswith("vlm."):
        if "lora_" in name:
            return "vlm lora"
        if name.endswith(("embed_tokens.row", "lm_head.row")):
            return "seg rows"
        return "vlm vision" if ".visual." in name else "vlm text"
    if name.startswith("head."):
        part = name.split(".")[1]
        return {"mask_head": "mask head"}.get(part, part)
    own = name.removeprefix("segmenter.")
    for prefix, part in _SEGMENTER_PARTS.items():
        if own.startswith(prefix):
            return part
    return "segmenter other"


def count_parameters(
    model: Counted, part_of: Callable[[str], str], parts: Iterable[str] = _PARTS
) -> dict[str, dict[str, int]]:
    """Parameters by part.

    Args:
        model: on any device.
        part_of: gives the part that a parameter belongs to, by the parameter's name.
        parts: all possible ones, in the order of the table.

    Returns:
        For each part, and `total`: `trained`, `frozen` (numbers of parameters), `trained_tensors`
        and `bytes` (of all its parameters as they are). Trained are those that train in some stage.
    """
    trained = set(model.checkpoint_state())
    rows = {
        part: {"trained": 0, "frozen": 0, "trained_tensors": 0, "bytes": 0}
        for part in (*dict.fromkeys(parts), "total")
    }
    for name, parameter in model.named_parameters():
        kind = "trained" if name in trained else "frozen"
        for row in (rows[part_of(name)], rows["total"]):
            row[kind] += parameter.numel()
            row["trained_tensors"] += name in trained
            row["bytes"] += parameter.numel() * parameter.element_size()
    return {part: row for part, row in rows.items() if row["trained"] or row["frozen"]}


def adapter_bytes(model: Counted, cfg: CfgNode) -> int:
    """Size of the safetensors file of what trains, header included.

    It is computed as 8 bytes, the JSON header with our own in it, and the tensors.
    """
    entries: dict[str, Any] = {}
    offset = 0
    for name, tensor in model.checkpoint_state().items():
        size = tensor.numel() * tensor.element_size()
        dtype = _DTYPES[tensor.dtype]
        entries[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    header = make_header(cfg.dump(), model.checkpoint_header(), iteration=0)
    entries["__metadata__"] = {
        "format": "pt",
        "detecture": json.dumps(header, sort_keys=True),
        "sha256": "0" * 64,
    }
    length = len(json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + offset


def kept_in_training(model: Counted) -> dict[str, int]:
    """Bytes of what trains: gradients and moments, in its own number format, and its file."""
    own = sum(t.numel() * t.element_size() for t in model.checkpoint_state().values())
    return {"gradients": own, "moments": 2 * own, "checkpoint": own}


def training_memory(model: Detecture) -> dict[str, dict[str, int]]:
    """Bytes that gradients and AdamW keep, ours and the published way.

    Ours: gradient and two moments of everything that trains, in its own number format. Published:
    the two rows are two whole tables of `PUBLISHED_ROWS` rows (fewer where the vocabulary is
    smaller) in the number format of the backbone, as its checkpoint shows (2.49 GB of tables and
    4.98 GB of moments).
    """
    state = model.checkpoint_state()
    own = sum(t.numel() * t.element_size() for t in state.values())
    rows = sum(t.numel() * t.element_size() for n, t in state.items() if part_of(n) == "seg rows")
    table: torch.Tensor = model.vlm.model.lm_head.weight
    count = min(len(table), PUBLISHED_ROWS)
    tables = 2 * count * table.shape[1] * table.element_size()
    if model.vlm.train_kind == "full":  # then the tables train in ours as well
        tables = 0
    return {
        "ours": kept_in_training(model),
        "published": {
            "gradients": own - rows + tables,
            "moments": 2 * (own - rows + tables),
            "checkpoint": own - rows + tables,
            "of_these_tables": tables,
            "of_these_moments_of_tables": 2 * tables,
        },
    }


def structure(model: nn.Module, depth: int = 4) -> Iterator[str]:
    """Lines of the module tree, with classes and parameters; equal neighbours are shown once.

    Args:
        model: the root.
        depth: number of levels that are shown.
    """
    yield f"{type(model).__name__}: {_size(model):,}"
    yield from _branches(model, 1, depth)


def _branches(module: nn.Module, level: int, depth: int) -> Iterator[str]:
    if level > depth:
        return
    children = list(module.named_children())
    index = 0
    while index < len(children):
        name, child = children[index]
        alike = index + 1
        while alike < len(children) and _same(child, children[alike][1]):
            alike += 1
        times = f" x {alike - index}" if alike - index > 1 else ""
        yield f"{'  ' * level}{name}: {type(child).__name__}{times}, {_size(child):,}"
        yield from _branches(child, level + 1, depth)
        index = alike


def _same(one: nn.Module, other: nn.Module) -> bool:
    return type(one) is type(other) and [p.shape for p in one.parameters()] == [
        p.shape for p in other.parameters()
    ]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
