"""Greedy answers of a VLM, a batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from detecture.modeling.vlm.cache import cache_argument
from detecture.modeling.vlm.chat import Chat
from detecture.modeling.vlm.hint import hinted
from detecture.modeling.vlm.types import Prefix

if TYPE_CHECKING:
    from transformers import DynamicCache, Qwen3VLForConditionalGeneration


def write_greedily(
    model: Qwen3VLForConditionalGeneration,
    chat: Chat,
    prefix: Prefix,
    cache: DynamicCache,
    max_new_tokens: int,
) -> list[list[int]]:
    """Most likely next tokens under ordinary causal attention, until the end token.

    With the `newline` format a newline follows every `<|seg|>` without being asked for: it has no
    weight in training, so that only the token behind it says whether the answer goes on.

    Args:
        model: the VLM.
        chat: ids of its special tokens, and the format of answers.
        prefix: prompts of B images.
        cache: empty; holds keys and values of prompts and answers afterwards.
        max_new_tokens: answers are cut off there.

    Returns:
        B lists of token ids, of different lengths.
    """
    with hinted(prefix.hint_BD):
        written = _write(model, chat, prefix, cache, max_new_tokens)
    return [chat.until_end(row) for row in torch.stack(written, dim=1).tolist()]


def _write(
    model: Qwen3VLForConditionalGeneration,
    chat: Chat,
    prefix: Prefix,
    cache: DynamicCache,
    max_new_tokens: int,
) -> list[Tensor]:
    """The tokens (B,) of each step."""
    valid = prefix.valid_BP.long()
    output = model.model(
        input_ids=prefix.ids_BP,
        attention_mask=valid,
        position_ids=prefix.positions_3BP,
        **cache_argument(model.model, cache),
        mm_encoder_outputs=prefix.vision.as_encoder_output(),
        use_cache=True,
    )
    finished_B = torch.zeros(len(valid), dtype=torch.bool, device=valid.device)
    positions_3BA = prefix.answer_positions(max_new_tokens)
    written: list[Tensor] = []
    for step in range(max_new_tokens):
        logits_BV = model.lm_head(output.last_hidden_state[:, -1])
        token_B = logits_BV.argmax(-1)
        if written and chat.stop_supervision == "newline":
            token_B = torch.where(written[-1] == chat.seg_id, chat.newline_id, token_B)
        token_B = token_B.masked_fill(finished_B, chat.pad_id)
        written.append(token_B)
        finished_B = finished_B | (token_B == chat.end_id)
        if bool(finished_B.all()) or step == max_new_tokens - 1:
            break
        valid = torch.cat([valid, torch.ones_like(valid[:, :1])], dim=1)
        output = model.model.language_model(
            inputs_embeds=model.get_input_embeddings()(token_B[:, None]),
            attention_mask=valid,
            position_ids=positions_3BA[:, :, step : step + 1],
            **cache_argument(model.model.language_model, cache),
            use_cache=True,
        )
    return written
