"""What is added to a frozen VLM to be trained: low-rank adapters and the rows of `<|seg|>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from detecture.modeling.vlm.seg_rows import SegEmbedding, SegHead

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

LORA_TARGETS = r".*language_model.*\.(q_proj|v_proj)"
"""Query and value projections of every text layer; the vision tower is left alone."""


def add_lora(
    model: Qwen3VLForConditionalGeneration, rank: int, alpha: float, dropout: float
) -> None:
    """Put low-rank adapters beside the projections (in place), in single precision at least."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=LORA_TARGETS),
        model,
    )
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            dtype = torch.promote_types(parameter.dtype, torch.float32)
            parameter.data = parameter.data.to(dtype)


def add_seg_rows(
    model: Qwen3VLForConditionalGeneration, seg_id: int, start_id: int, kind: str
) -> None:
    """Give embedding and output projection a row of `<|seg|>` of their own (in place).

    Args:
        model: its tables grow where they have no row `seg_id`.
        seg_id: id of `<|seg|>`.
        start_id: id of the token whose rows they start from, with `im_end`.
        kind: what they start from: `im_end`, `mean` (of all rows) or `random`.
    """
    if seg_id >= model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(seg_id + 1)
    embedding = SegEmbedding(model.get_input_embeddings(), seg_id)
    head = SegHead(model.lm_head, seg_id)
    for wrapper in (embedding, head):
        warm_start(wrapper, kind, start_id)
    model.set_input_embeddings(embedding)
    model.lm_head = head


def warm_start(wrapper: SegEmbedding | SegHead, kind: str, end_id: int) -> None:
    """Set the row, by `kind`: `im_end` (the row of `end_id`), `mean` (of all rows) or `random`."""
    table = wrapper.weight
    if table.is_meta:
        return
    with torch.no_grad():
        if kind == "im_end":
            wrapper.row.copy_(table[end_id])
        elif kind == "mean":
            # In parts: the table in single precision may be gigabytes.
            total = torch.stack([part.float().sum(0) for part in table.split(4096)]).sum(0)
            wrapper.row.copy_(total / len(table))
        else:
            wrapper.row.normal_(std=0.02)
