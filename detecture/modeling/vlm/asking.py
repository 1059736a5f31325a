"""Prompts as a VLM takes them, and questions in free words to one that was not trained here.

Legend as in qwen3vl.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from detecture.modeling.vlm.chat import Chat
from detecture.modeling.vlm.types import Prefix, VisionFeatures, pad

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

    from detecture.modeling.vlm.qwen3vl import Qwen3VL


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
        vision: the pictures.
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


@torch.no_grad()
def ask(vlm: Qwen3VL, vision: VisionFeatures, system: str, questions: Sequence[str]) -> list[str]:
    """One question about each picture, answered greedily.

    The VLM belongs built with `seg_rows=None`: a row for `<|seg|>` that was not trained starts as a
    copy of the end token's, and would compete with it.

    Args:
        vlm: answers, in at most its `max_new_tokens`.
        vision: the pictures, from `vlm.encode_images`.
        system: system text.
        questions: for each picture the user text behind it.

    Returns:
        B answers, without special tokens.
    """
    chat, visual_tokens = vlm.chat, vision.tokens_BVD.shape[1]
    rows = [chat.question_ids(system, question, visual_tokens) for question in questions]
    prefix = prefix_of_prompts(vlm.model, chat, vision, rows)
    answers = vlm.write(prefix, vlm.new_cache())
    # The end of a text ends an answer too, for a model that nobody taught otherwise.
    cut = [row[: row.index(chat.pad_id)] if chat.pad_id in row else row for row in answers]
    return [chat.tokenizer.decode(row, skip_special_tokens=True) for row in cut]
