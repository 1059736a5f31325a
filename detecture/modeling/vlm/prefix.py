"""Prompts as a VLM takes them.

Legend as in qwen3vl.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from detecture.modeling.vlm.chat import Chat
from detecture.modeling.vlm.types import Prefix, VisionFeatures, pad

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration


def prefix_of_prompts(
    model: Qwen3VLForConditionalGeneration,
    chat: Chat,
    vision: VisionFeatures,
    rows: Sequence[Sequence[int]],
) -> Prefix:
    """Prompts of a batch, with their rotary positions.

    Args:
        model: the VLM.
        chat: ids of its special tokens.
        vision: the images.
        rows: for each the token ids of its prompt.
    """
    device = model.get_input_embeddings().weight.device
    ids_BP, valid_BP = pad(rows, chat.pad_id, left=True, device=device)
    positions_3BP, _ = model.model.get_rope_index(
        ids_BP,
        (ids_BP == chat.image_id).int(),
        image_grid_thw=vision.grid_B3,
        attention_mask=valid_BP.long(),
    )
    start_B = positions_3BP.masked_fill(~valid_BP, 0).amax(dim=(0, 2)) + 1
    return Prefix(ids_BP, valid_BP, positions_3BP, start_B, vision)
